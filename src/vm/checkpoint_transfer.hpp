#pragma once

#include <memory>
#include <optional>

#include "vm/checkpoint_index.hpp"
#include "vm/checkpoint_stream.hpp"
#include "vm/checkpoints.hpp"
#include "vm/host.hpp"
#include "vm/tenant_context.hpp"

namespace noid::vm {

// A checkpoint on its way out.
class LocalCheckpointSource final : public CheckpointSource {
  public:
    LocalCheckpointSource(Host& host, std::unique_ptr<CheckpointWriter> writer)
        : host_{host}, writer_{std::move(writer)} {}
    Awaitable<Result<std::string>> next() override;

  private:
    Host& host_;
    std::unique_ptr<CheckpointWriter> writer_;
};

// A checkpoint on its way in: unpacked into a draft, published when it is complete.
class LocalCheckpointSink final : public CheckpointSink {
  public:
    // invalid or conflict when the name cannot be had.
    [[nodiscard]] static Awaitable<Result<std::unique_ptr<CheckpointSink>>> open(
        Host& host, std::shared_ptr<TenantContext> tenant, VmName vm, CheckpointRequest request);

    Awaitable<Result<void>> write(std::string bytes) override;
    Awaitable<Result<CheckpointView>> finish() override;

  private:
    Awaitable<Result<void>> pass_on();
    // Blocking.
    [[nodiscard]] Result<void> take(std::string_view bytes);
    [[nodiscard]] Result<void> has_room() const;
    LocalCheckpointSink(Host& host, std::shared_ptr<TenantContext> tenant, VmName vm,
                        CheckpointRequest request, CheckpointIndex::NameHold name)
        : host_{host},
          tenant_{std::move(tenant)},
          vm_{std::move(vm)},
          request_{std::move(request)},
          name_{std::move(name)} {}

    Host& host_;
    const std::shared_ptr<TenantContext> tenant_;
    const VmName vm_;
    const CheckpointRequest request_;
    CheckpointIndex::NameHold name_;
    std::string id_;
    std::optional<SnapshotDraft> draft_;
    std::unique_ptr<CheckpointReader> reader_;
    bool described_ = false;           // and found acceptable
    std::uint64_t room_asked_at_ = 0;  // as CheckpointReader::bytes_put()
    std::string gathered_;  // a network gives small pieces; each trip to the pool takes many of them
};

}  // namespace noid::vm
