#include "admin/offline_users.hpp"

#include <utility>

#include "admin/engine_answers.hpp"
#include "netclient/daemon_network.hpp"
#include "vm/local_engine.hpp"
#include "vmm_choice/choose.hpp"

namespace noid::admin {
namespace {

class EngineUsers final : public OfflineUsers {
  public:
    explicit EngineUsers(std::unique_ptr<vm::Engine> engine) : engine_{std::move(engine)} {}

    Awaitable<Result<wire::UserWithToken>> create(std::string name) override {
        auto made = co_await engine_->create_user(std::move(name));
        if (!made) co_return fail(std::move(made).error());
        co_return to_wire(std::move(*made));
    }

    Awaitable<Result<wire::UserWithToken>> rotate_token(std::string name) override {
        auto made = co_await engine_->rotate_token(std::move(name));
        if (!made) co_return fail(std::move(made).error());
        co_return to_wire(std::move(*made));
    }

    Awaitable<Result<std::vector<wire::User>>> list() override {
        auto found = co_await engine_->users();
        if (!found) co_return fail(std::move(found).error());
        std::vector<wire::User> users;
        for (auto& user : *found) users.push_back(to_wire(std::move(user)));
        co_return users;
    }

    Awaitable<Result<wire::UserLimits>> limits(std::string name) override {
        auto found = co_await engine_->limits(std::move(name));
        if (!found) co_return fail(std::move(found).error());
        co_return to_wire(*found);
    }

    Awaitable<Result<wire::UserLimits>> set_limits(std::string name, wire::OwnLimits limits) override {
        const auto wanted = from_wire(limits);
        if (!wanted) co_return fail(wanted.error());
        auto set = co_await engine_->set_limits(std::move(name), *wanted);
        if (!set) co_return fail(std::move(set).error());
        co_return to_wire(*set);
    }

    Awaitable<Result<wire::User>> remove(std::string name) override {
        auto removed = co_await engine_->delete_user(std::move(name));
        if (!removed) co_return fail(std::move(removed).error());
        co_return to_wire(std::move(*removed));
    }

    Awaitable<void> close() override { return engine_->close(); }

  private:
    std::unique_ptr<vm::Engine> engine_;
};

}  // namespace

Awaitable<Result<std::unique_ptr<OfflineUsers>>> OfflineUsers::open(asio::io_context& loop,
                                                                    asio::thread_pool& pool,
                                                                    const config::ServerConfig& config,
                                                                    vmm_choice::Starter starter,
                                                                    netclient::Client::Connect network) {
    auto choice = co_await vmm_choice::choose(config.vmm, starter, pool);
    if (!choice) co_return fail(std::move(choice).error());
    // A variable: g++ 12 destroys an aggregate that is made inside a co_await expression twice.
    vm::EngineParts parts{
        loop, config, std::move(choice->vmm), std::move(starter.warden),
        std::make_unique<netclient::DaemonNetwork>(config.paths.netd_socket, std::move(network))};
    auto engine = co_await vm::LocalEngine::open(std::move(parts));
    if (!engine) co_return fail(std::move(engine).error());
    std::unique_ptr<OfflineUsers> users = std::make_unique<EngineUsers>(std::move(*engine));
    co_return users;
}

}  // namespace noid::admin
