#include "admin/offline_users.hpp"

#include <utility>

#include "netclient/daemon_network.hpp"
#include "vm/local_engine.hpp"
#include "vmm_choice/choose.hpp"

namespace noid::admin {
namespace {

wire::User to_wire(vm::User user) {
    return wire::User{std::move(user.id), std::move(user.name), std::move(user.created_at)};
}

Result<wire::UserWithToken> to_wire(Result<vm::Engine::NewToken> made) {
    if (!made) return fail(std::move(made).error());
    return wire::UserWithToken{to_wire(std::move(made->user)), std::move(made->secret)};
}

class EngineUsers final : public OfflineUsers {
  public:
    explicit EngineUsers(std::unique_ptr<vm::Engine> engine) : engine_{std::move(engine)} {}

    Awaitable<Result<wire::UserWithToken>> create(std::string name) override {
        co_return to_wire(co_await engine_->create_user(std::move(name)));
    }

    Awaitable<Result<wire::UserWithToken>> rotate_token(std::string name) override {
        co_return to_wire(co_await engine_->rotate_token(std::move(name)));
    }

    Awaitable<Result<std::vector<wire::User>>> list() override {
        auto found = co_await engine_->users();
        if (!found) co_return fail(std::move(found).error());
        std::vector<wire::User> users;
        for (auto& user : *found) users.push_back(to_wire(std::move(user)));
        co_return users;
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
                                                                    const config::ServerConfig& config) {
    auto choice = co_await vmm_choice::choose(config.vmm, pool);
    if (!choice) co_return fail(std::move(choice).error());
    // A variable: g++ 12 destroys an aggregate that is made inside a co_await expression twice.
    vm::EngineParts parts{loop, config, std::move(choice->vmm),
                          std::make_unique<netclient::DaemonNetwork>(config.paths.netd_socket)};
    auto engine = co_await vm::LocalEngine::open(std::move(parts));
    if (!engine) co_return fail(std::move(engine).error());
    std::unique_ptr<OfflineUsers> users = std::make_unique<EngineUsers>(std::move(*engine));
    co_return users;
}

}  // namespace noid::admin
