#include "vm/checkpoint_transfer.hpp"

#include <fmt/format.h>

#include "base/log.hpp"
#include "base/random.hpp"
#include "vm/checkpoint_hasher.hpp"
#include "vm/create_request.hpp"
#include "vm/usage.hpp"

namespace noid::vm {

namespace {

constexpr std::size_t longest_label = 256;
constexpr std::size_t enough_to_pass_on = 256 * 1024;
constexpr std::uint64_t room_asked_every = MiB{64}.bytes();

// Whether a VM like this may be made here: the sender may have written what nobody could ask for.
Result<void> acceptable(const SnapshotConfig& config, const Host& host) {
    if (const std::string obstacle = config.obstacle(host.vmm.description()); !obstacle.empty())
        return fail(Errc::unsupported, obstacle);
    if (config.label.size() > longest_label)
        return fail(Errc::invalid, fmt::format("a label has at most {} bytes", longest_label));
    auto name = VmName::parse("imported");
    if (!name) return fail(std::move(name.error()));
    CreateRequest like{.name = std::move(*name)};
    like.cpus = config.cpus;
    like.memory = config.memory;
    like.disk = config.disk;
    like.env = config.env;
    like.network = config.network;
    like.image = config.image;
    return check(like, host.config.limits);
}

}  // namespace

Awaitable<Result<std::string>> LocalCheckpointSource::next() {
    auto work = [this] { return writer_->next(); };
    co_return co_await on_pool(host_.files, std::move(work));
}

Awaitable<Result<std::unique_ptr<CheckpointSink>>> LocalCheckpointSink::open(
    Host& host, std::shared_ptr<TenantContext> tenant, VmName vm, CheckpointRequest request) {
    if (request.label.size() > longest_label)
        co_return fail(Errc::invalid, fmt::format("a label has at most {} bytes", longest_label));
    auto name = tenant->checkpoints.hold_name(vm, request.name);
    if (!name) co_return fail(std::move(name.error()));
    std::unique_ptr<LocalCheckpointSink> sink{new LocalCheckpointSink{host, std::move(tenant), std::move(vm),
                                                                      std::move(request), std::move(*name)}};
    sink->id_ = random_hex(8);
    const StreamLimits limits{host.config.limits.max_memory_per_vm, host.config.limits.max_disk_per_vm};
    auto begin = [&sink, limits]() -> Result<void> {
        if (auto room = sink->has_room(); !room) return room;
        auto draft = SnapshotDraft::create(sink->tenant_->checkpoints.directory(), sink->id_);
        if (!draft) return fail(std::move(draft.error()));
        sink->draft_.emplace(std::move(*draft));
        auto reader = CheckpointReader::create(sink->draft_->directory(), limits);
        if (!reader) return fail(std::move(reader.error()));
        sink->reader_ = std::move(*reader);
        return {};
    };
    if (auto begun = co_await on_pool(host.files, std::move(begin)); !begun)
        co_return fail(std::move(begun.error()));
    co_return std::move(sink);
}

Awaitable<Result<void>> LocalCheckpointSink::write(std::string bytes) {
    gathered_ += bytes;
    if (gathered_.size() < enough_to_pass_on) co_return Result<void>{};
    co_return co_await pass_on();
}

Awaitable<Result<void>> LocalCheckpointSink::pass_on() {
    auto work = [this] { return take(gathered_); };
    auto written = co_await on_pool(host_.files, std::move(work));
    gathered_.clear();
    co_return written;
}

Result<void> LocalCheckpointSink::take(std::string_view bytes) {
    if (auto written = reader_->write(bytes); !written) return written;
    if (const SnapshotConfig* config = reader_->description(); config != nullptr && !described_) {
        if (auto accepted = acceptable(*config, host_); !accepted) return accepted;
        described_ = true;
    }
    if (reader_->bytes_put() - room_asked_at_ < room_asked_every) return {};
    room_asked_at_ = reader_->bytes_put();
    return has_room();
}

// How much will come is not known: who is beyond the limit by now gets nothing more.
Result<void> LocalCheckpointSink::has_room() const {
    Quota& quota = tenant_->quota;
    if (!quota.bounds_disk()) return {};
    const auto used = space_taken(tenant_->paths.directory());
    if (!used) return fail(Errc::internal, "the space that the user takes cannot be measured");
    if (auto claim = quota.claim(*used, 1); !claim) return fail(std::move(claim.error()));
    return {};
}

Awaitable<Result<CheckpointView>> LocalCheckpointSink::finish() {
    if (auto written = co_await pass_on(); !written) co_return fail(std::move(written.error()));
    auto work = [this]() -> Result<SnapshotConfig> {
        auto config = reader_->finish();
        if (!config) return config;
        if (auto room = has_room(); !room) return fail(std::move(room.error()));
        config->id = id_;
        config->vm_name = vm_.text();
        config->vm_id.clear();
        config->parent.clear();
        config->name = request_.name;
        if (!request_.label.empty()) config->label = request_.label;
        config->automatic = false;
        config->sources.clear();
        config->sha256.clear();  // of what lies here they are taken here
        if (auto done = draft_->publish(*config, tenant_->checkpoints.place_of(*config)); !done)
            return fail(std::move(done.error()));
        return config;
    };
    auto config = co_await on_pool(host_.files, std::move(work));
    if (!config) co_return fail(std::move(config.error()));
    tenant_->checkpoints.put(*config);
    host_.hasher.add(tenant_, *config);
    log::info("checkpoint imported", {{"user", tenant_->user_name}, {"vm", vm_.text()}, {"checkpoint", id_}});
    co_return config->view();
}

}  // namespace noid::vm
