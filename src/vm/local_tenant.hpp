#pragma once

#include <memory>
#include <set>
#include <shared_mutex>
#include <string>
#include <vector>

#include "vm/host.hpp"
#include "vm/local_checkpoints.hpp"
#include "vm/stray_processes.hpp"
#include "vm/tenant.hpp"
#include "vm/tenant_context.hpp"
#include "vm/vm_actor.hpp"

namespace noid::vm {

// The one implementation of Tenant: a user's VMs in memory, over the user's directory and database.
class LocalTenant final : public Tenant, public std::enable_shared_from_this<LocalTenant> {
  public:
    LocalTenant(Host& host, std::shared_ptr<TenantContext> context)
        : host_{host}, context_{std::move(context)}, checkpoints_{*this, host_, context_} {}

    // Finishes or takes back what was interrupted, removes what nobody owns, takes over what runs.
    // Once, before anything else. `running`: which processes work in which directory now.
    Awaitable<Result<void>> recover(std::shared_ptr<const WorkingDirectories> running);
    // Destroys every VM and accepts no new one; for the removal of the user. The error says which VM
    // is left and why.
    Awaitable<Result<void>> destroy_all();
    // Lets go of every VM; they run on.
    Awaitable<void> let_go();

    // A VM that wakes from a snapshot, under an id that the caller has noted. All or nothing.
    Awaitable<Result<VmView>> create_from(Origin origin, VmName name, std::string id);

    [[nodiscard]] std::vector<std::shared_ptr<VmActor>> actors() const;
    [[nodiscard]] std::shared_ptr<VmActor> actor_of(const VmName& name) const;
    [[nodiscard]] const TenantPaths& paths() const noexcept { return context_->paths; }
    [[nodiscard]] Quota& quota() const noexcept { return context_->quota; }

    // --- Tenant ---
    [[nodiscard]] const std::string& user_id() const override { return context_->user_id; }
    [[nodiscard]] const std::string& user_name() const override { return context_->user_name; }
    Awaitable<Result<Created>> create(CreateRequest request) override;
    [[nodiscard]] std::vector<VmView> list() const override;
    [[nodiscard]] std::uint64_t revision() const override;
    [[nodiscard]] Result<std::shared_ptr<Vm>> find(const VmName& name) const override;
    Awaitable<Result<bool>> destroy(const VmName& name) override;
    [[nodiscard]] Checkpoints& checkpoints() override { return checkpoints_; }

  private:
    class Reservation;

    Awaitable<Result<std::optional<Created>>> replay(const CreateRequest& request,
                                                     const std::string& fingerprint);
    Awaitable<WarmPool::Loan> borrow_warm(const VmRecord& record, std::filesystem::path image);
    Result<Reservation> reserve(std::shared_ptr<VmActor> actor, const std::string& idempotency_key);
    void forget(const std::shared_ptr<VmActor>& actor);

    Host& host_;
    const std::shared_ptr<TenantContext> context_;
    mutable std::shared_mutex mutex_;
    std::vector<std::shared_ptr<VmActor>> vms_;  // in the order of their creation
    std::set<std::string> keys_in_work_;         // idempotency keys of creates that are going on
    bool closed_ = false;                        // accepts no new VM
    LocalCheckpoints checkpoints_;
};

}  // namespace noid::vm
