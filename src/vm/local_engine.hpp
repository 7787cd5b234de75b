#pragma once

#include <boost/asio/io_context.hpp>
#include <map>
#include <memory>
#include <shared_mutex>
#include <string>
#include <unordered_map>

#include "store/user_database.hpp"
#include "vm/data_directory.hpp"
#include "vm/engine.hpp"
#include "vm/host.hpp"
#include "vm/local_tenant.hpp"
#include "vm/operation_queue.hpp"
#include "vm/token.hpp"

namespace noid::vm {

// What an engine is made of; main() or a test puts it together.
struct EngineParts {
    asio::io_context& loop;
    config::ServerConfig config;
    std::unique_ptr<vmm::Vmm> vmm;
    std::shared_ptr<vmm::Warden> warden;  // who looks after its processes
    std::unique_ptr<Network> network;
    ChannelFactory make_channel = channel::AgentChannel::create;
    StepHook at_step = {};
    PressureWatch watch_pressure = MemoryPressure::watch;
};

// The one implementation of Engine.
class LocalEngine final : public Engine, private Doorbell {
  public:
    // Takes the data directory (conflict when another server has it), finishes or rolls back what
    // was interrupted, takes running VMs over again.
    [[nodiscard]] static Awaitable<Result<std::unique_ptr<Engine>>> open(EngineParts parts);

    [[nodiscard]] Result<std::shared_ptr<Tenant>> authenticate(std::string_view token) const override;
    [[nodiscard]] std::shared_ptr<Tenant> tenant_named(const std::string& user_name) const override;
    Awaitable<Result<NewToken>> create_user(std::string name) override;
    Awaitable<Result<NewToken>> rotate_token(std::string name) override;
    Awaitable<Result<std::vector<User>>> users() override;
    Awaitable<Result<User>> delete_user(std::string name) override;
    Awaitable<Result<UserLimits>> limits(std::string name) override;
    Awaitable<Result<UserLimits>> set_limits(std::string name, store::UserLimits limits) override;
    Awaitable<EngineNumbers> numbers() const override;
    [[nodiscard]] PortRegistry& ports() override { return ports_; }
    [[nodiscard]] const vmm::Description& vmm() const override { return vmm_->description(); }
    Awaitable<void> close() override;

  private:
    struct Account {
        User user;
        TokenHash token{};
        // A tenant whose database cannot be opened fails alone, with this.
        Result<std::shared_ptr<LocalTenant>> tenant;
    };

    LocalEngine(EngineParts parts, DataDirectory directory, std::unique_ptr<volume::Volume> volume,
                std::unique_ptr<store::UserDatabase> users);

    // On the strand, under a turn.
    Awaitable<Result<void>> load();
    void settle_golden() const;
    Awaitable<Result<NewToken>> create_user_now(std::string name);
    Awaitable<Result<NewToken>> rotate_token_now(std::string name);
    Awaitable<Result<User>> delete_user_now(std::string name);
    Awaitable<Result<void>> set_limits_now(std::string name, store::UserLimits limits);
    Awaitable<Result<void>> finish_deletion(std::string user_id);
    Awaitable<Result<void>> give_back_leaked_slots();
    [[nodiscard]] std::vector<std::string> vms_that_may_have_slots() const;

    // --- Doorbell; on the strand ---
    [[nodiscard]] std::vector<std::string> asleep() const override;
    void knocked(std::string vm_id) override;
    void lost(std::string vm_id) override;
    [[nodiscard]] std::shared_ptr<VmActor> actor_of(const std::string& vm_id) const;
    static Awaitable<void> answer(LocalEngine& engine, std::shared_ptr<VmActor> actor);

    template <class Work>
    auto administrate(Work work) const -> std::invoke_result_t<Work&>;
    Awaitable<Result<std::shared_ptr<LocalTenant>>> open_tenant(User user, store::UserLimits own) const;
    void enter(Account account);
    [[nodiscard]] std::optional<Account> account_of(const std::string& name) const;
    [[nodiscard]] std::vector<std::shared_ptr<LocalTenant>> tenants() const;

    const config::ServerConfig config_;
    const std::unique_ptr<vmm::Vmm> vmm_;
    const std::shared_ptr<vmm::Warden> warden_;
    const std::unique_ptr<Network> network_;
    PortRegistry ports_;
    const DataDirectory directory_;
    const std::unique_ptr<volume::Volume> volume_;
    const TemplateStore templates_;
    const std::unique_ptr<store::UserDatabase> user_database_;
    const asio::any_io_executor strand_;
    mutable OperationQueue administration_;
    TaskGroup watch_;                    // over VMs that sleep; joined by close()
    std::set<std::string> being_woken_;  // ids of VMs that somebody sends to; on the strand

    mutable std::shared_mutex mutex_;
    std::map<std::string, Account> accounts_;  // by user name
    std::unordered_map<TokenHash, std::string, TokenHashBucket, SameTokenHash> names_;

    // Last: their threads end before what they work on.
    mutable asio::thread_pool databases_{2};
    mutable asio::thread_pool files_{4};
    const std::shared_ptr<WarmPool> warm_;
    const std::unique_ptr<CheckpointHasher> hasher_;
    mutable Host host_;
};

}  // namespace noid::vm
