#pragma once

#include "vm/checkpoints.hpp"
#include "vm/host.hpp"
#include "vm/snapshot.hpp"
#include "vm/tenant_context.hpp"

namespace noid::vm {

class LocalTenant;

// The one implementation of Checkpoints, over a tenant's directory.
class LocalCheckpoints final : public Checkpoints {
  public:
    LocalCheckpoints(LocalTenant& tenant, Host& host, std::shared_ptr<TenantContext> context)
        : tenant_{tenant}, host_{host}, context_{std::move(context)} {}

    Awaitable<Result<std::vector<CheckpointView>>> list(const VmName& vm) override;
    Awaitable<Result<CheckpointView>> info(const VmName& vm, std::string which) override;
    Awaitable<Result<CheckpointView>> change(const VmName& vm, std::string which,
                                             CheckpointChange change) override;
    Awaitable<Result<CheckpointView>> remove(const VmName& vm, std::string which) override;
    Awaitable<Result<std::vector<CheckpointView>>> prune(const VmName& vm, PruneRule rule) override;
    Awaitable<Result<Restored>> restore(const VmName& vm, RestoreRequest request) override;
    Awaitable<Result<VmView>> clone(const VmName& vm, CloneRequest request) override;
    Awaitable<Result<std::vector<VmView>>> fork(const VmName& vm, ForkRequest request) override;
    Awaitable<Result<std::unique_ptr<CheckpointSource>>> export_stream(const VmName& vm,
                                                                       std::string which) override;
    Awaitable<Result<std::unique_ptr<CheckpointSink>>> import_stream(const VmName& vm,
                                                                     CheckpointRequest request) override;

  private:
    [[nodiscard]] CheckpointView render(const SnapshotConfig& config) const;
    Awaitable<CheckpointView> measured(SnapshotConfig config) const;
    Awaitable<Result<CheckpointView>> remove_one(SnapshotConfig config);
    Result<std::vector<VmName>> names_for_fork(const VmName& vm, const ForkRequest& request) const;
    Awaitable<Result<std::vector<VmView>>> make_clones(const SnapshotConfig& config,
                                                       const std::vector<VmName>& names,
                                                       const std::vector<std::string>& ids);

    LocalTenant& tenant_;  // owns this
    Host& host_;
    const std::shared_ptr<TenantContext> context_;
};

}  // namespace noid::vm
