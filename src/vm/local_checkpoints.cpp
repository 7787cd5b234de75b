#include "vm/local_checkpoints.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/strand.hpp>
#include <chrono>
#include <set>

#include "base/log.hpp"
#include "base/random.hpp"
#include "vm/checkpoint_transfer.hpp"
#include "vm/local_tenant.hpp"
#include "vm/task_group.hpp"

namespace noid::vm {

namespace {

constexpr std::size_t longest_label = 256;
constexpr std::size_t most_clones = 64;

}  // namespace

CheckpointView LocalCheckpoints::render(const SnapshotConfig& config) const {
    CheckpointView view = config.view();
    view.obstacle = config.obstacle(host_.vmm.description());
    return view;
}

Awaitable<CheckpointView> LocalCheckpoints::measured(SnapshotConfig config) const {
    CheckpointView view = render(config);
    auto measure = [place = context_->checkpoints.place_of(config)] { return exclusive_bytes(place); };
    if (auto bytes = co_await on_pool(host_.files, std::move(measure))) view.disk_used = *bytes;
    co_return view;
}

Awaitable<Result<std::vector<CheckpointView>>> LocalCheckpoints::list(const VmName& vm) {
    std::vector<CheckpointView> views;
    for (SnapshotConfig& config : context_->checkpoints.of(vm))
        views.push_back(co_await measured(std::move(config)));
    co_return views;
}

Awaitable<Result<CheckpointView>> LocalCheckpoints::info(const VmName& vm, std::string which) {
    auto config = context_->checkpoints.find(vm, which);
    if (!config) co_return fail(std::move(config.error()));
    co_return co_await measured(std::move(*config));
}

Awaitable<Result<CheckpointView>> LocalCheckpoints::change(const VmName& vm, std::string which,
                                                           CheckpointChange change) {
    auto config = context_->checkpoints.find(vm, which);
    if (!config) co_return fail(std::move(config.error()));
    if (change.label && change.label->size() > longest_label)
        co_return fail(Errc::invalid, fmt::format("a label has at most {} bytes", longest_label));
    const auto owner = VmName::parse(config->vm_name);
    if (!owner) co_return fail(owner.error());
    const bool renamed = change.name && *change.name != config->name;
    auto hold = context_->checkpoints.hold_name(*owner, renamed ? *change.name : std::string{});
    if (!hold) co_return fail(std::move(hold.error()));
    auto apply = [&change](SnapshotConfig& present) {
        if (change.name) present.name = *change.name;
        if (change.label) present.label = *change.label;
    };
    auto write = [this, &config, &apply] { return context_->checkpoints.change(config->id, apply); };
    auto changed = co_await on_pool(host_.files, std::move(write));
    if (!changed) co_return fail(std::move(changed.error()));
    co_return render(*changed);
}

// --- removal -----------------------------------------------------------------------------------------

Awaitable<Result<CheckpointView>> LocalCheckpoints::remove_one(SnapshotConfig config) {
    CheckpointView view = co_await measured(config);
    auto work = [context = context_, &config] { return context->checkpoints.remove(config); };
    if (auto removed = co_await on_pool(host_.files, std::move(work)); !removed)
        co_return fail(std::move(removed.error()).at(fmt::format("remove checkpoint '{}'", config.id)));
    co_return view;
}

Awaitable<Result<CheckpointView>> LocalCheckpoints::remove(const VmName& vm, std::string which) {
    auto config = context_->checkpoints.find(vm, which);
    if (!config) co_return fail(std::move(config.error()));
    co_return co_await remove_one(std::move(*config));
}

Awaitable<Result<std::vector<CheckpointView>>> LocalCheckpoints::prune(const VmName& vm, PruneRule rule) {
    if (!rule.keep && !rule.older_than)
        co_return fail(Errc::invalid, "say how many to keep, or how old they may be");
    auto all = context_->checkpoints.of(vm);
    if (rule.automatic_only) std::erase_if(all, [](const SnapshotConfig& one) { return !one.automatic; });
    const auto now = std::chrono::duration_cast<std::chrono::microseconds>(
        std::chrono::system_clock::now().time_since_epoch());
    std::vector<CheckpointView> removed;
    for (std::size_t i = 0; i < all.size(); ++i) {
        const auto age = now - std::chrono::microseconds{all[i].created_us};
        const bool too_many = rule.keep && all.size() - i > *rule.keep;
        const bool too_old = rule.older_than && age > *rule.older_than;
        if (!too_many && !too_old) continue;
        auto gone = co_await remove_one(all[i]);
        if (!gone) co_return fail(std::move(gone.error()));
        removed.push_back(std::move(*gone));
    }
    co_return removed;
}

// --- restore, clone, fork ----------------------------------------------------------------------------

Awaitable<Result<Restored>> LocalCheckpoints::restore(const VmName& vm, RestoreRequest request) {
    auto actor = tenant_.actor_of(vm);
    if (!actor) co_return fail(Errc::not_found, fmt::format("VM '{}' not found", vm.text()));
    auto config = context_->checkpoints.find(vm, request.checkpoint);
    if (!config) co_return fail(std::move(config.error()));
    VmActor::Rewind rewind{*config, context_->checkpoints.place_of(*config), request.keep_present};
    co_return co_await actor->restore(std::move(rewind));
}

Awaitable<Result<VmView>> LocalCheckpoints::clone(const VmName& vm, CloneRequest request) {
    auto config = context_->checkpoints.find(vm, request.checkpoint);
    if (!config) co_return fail(std::move(config.error()));
    const auto place = context_->checkpoints.place_of(*config);
    Origin origin{place, *config, "checkpoint"};
    co_return co_await tenant_.create_from(std::move(origin), std::move(request.name), random_hex(8));
}

Result<std::vector<VmName>> LocalCheckpoints::names_for_fork(const VmName& vm,
                                                             const ForkRequest& request) const {
    const std::size_t count = request.names.empty() ? request.count : request.names.size();
    if (count == 0 || count > most_clones)
        return fail(Errc::invalid, fmt::format("1 to {} clones can be made at once", most_clones));
    if (!request.names.empty()) {
        const std::set<VmName> distinct{request.names.begin(), request.names.end()};
        if (distinct.size() != count) return fail(Errc::invalid, "two of the names are the same");
        return request.names;
    }
    std::vector<VmName> names;
    for (std::size_t number = 1; names.size() < count; ++number) {
        auto name = VmName::parse(fmt::format("{}-{}", vm.text(), number));
        if (!name) return fail(std::move(name.error()));
        if (!tenant_.actor_of(*name)) names.push_back(std::move(*name));
    }
    return names;
}

// All of them or none: those that came to be are destroyed when another failed.
Awaitable<Result<std::vector<VmView>>> LocalCheckpoints::make_clones(const SnapshotConfig& config,
                                                                     const std::vector<VmName>& names,
                                                                     const std::vector<std::string>& ids) {
    auto made =
        std::make_shared<std::vector<Result<VmView>>>(names.size(), fail(Errc::cancelled, "cancelled"));
    auto make_one = [](LocalTenant& tenant, Origin origin, VmName name, std::string id,
                       std::shared_ptr<std::vector<Result<VmView>>> results,
                       std::size_t at) -> Awaitable<void> {
        (*results)[at] = co_await tenant.create_from(std::move(origin), std::move(name), std::move(id));
    };
    TaskGroup group{co_await asio::this_coro::executor, "clones of a fork"};
    for (std::size_t i = 0; i < names.size(); ++i) {
        Origin origin{context_->checkpoints.place_of(config), config, "checkpoint"};
        group.spawn(make_one(tenant_, std::move(origin), names[i], ids[i], made, i));
    }
    co_await group.join();
    const auto failed = std::ranges::find_if(*made, [](const auto& one) { return !one.has_value(); });
    std::vector<VmView> views;
    if (failed == made->end()) {
        for (auto& one : *made) views.push_back(std::move(*one));
        co_return views;
    }
    for (std::size_t i = 0; i < names.size(); ++i) {
        if ((*made)[i]) (void)co_await tenant_.destroy(names[i]);
    }
    co_return fail(std::move(failed->error()));
}

Awaitable<Result<std::vector<VmView>>> LocalCheckpoints::fork(const VmName& vm, ForkRequest request) {
    auto actor = tenant_.actor_of(vm);
    if (!actor) co_return fail(Errc::not_found, fmt::format("VM '{}' not found", vm.text()));
    const auto names = names_for_fork(vm, request);
    if (!names) co_return fail(names.error());
    // One strand for this operation, where its clones are made at once.
    auto work = [this, actor, &vm, &names]() -> Awaitable<Result<std::vector<VmView>>> {
        // From here on it is carried through, whoever still waits for it.
        co_await ignore_cancellation();
        IntentData data{actor->record().id, {}, random_hex(8)};
        for (std::size_t i = 0; i < names->size(); ++i) data.clones.push_back(random_hex(8));
        auto begin = [context = context_, &vm, text = data.to_json()] {
            return context->database->begin({0, "fork", vm.text(), text});
        };
        auto intent = co_await on_pool(host_.databases, std::move(begin));
        if (!intent) co_return fail(std::move(intent.error()));
        Result<std::vector<VmView>> made = fail(Errc::internal, "nothing made");
        auto config = co_await actor->save_for_fork(data.checkpoint);
        if (config) {
            made = co_await make_clones(*config, *names, data.clones);
        } else {
            made = fail(config.error());
        }
        if (made && host_.at_step) {
            if (auto go = host_.at_step("fork:made"); !go) made = fail(std::move(go.error()));
        }
        // The clones hold on to what they need of it.
        if (config) {
            if (auto removed = co_await remove_one(*config); !removed)
                log::warn("checkpoint of a fork is left", {{"reason", removed.error().full()}});
        }
        auto finish = [context = context_, id = *intent] { return context->database->finish(id); };
        auto finished = co_await on_pool(host_.databases, std::move(finish));
        if (!finished) log::warn("fork not concluded", {{"reason", finished.error().full()}});
        if (!made) co_return fail(std::move(made.error()).at(fmt::format("fork VM '{}'", vm.text())));
        co_return made;
    };
    co_return co_await on_strand(asio::make_strand(host_.loop), work);
}

// --- export and import -------------------------------------------------------------------------------

Awaitable<Result<std::unique_ptr<CheckpointSource>>> LocalCheckpoints::export_stream(const VmName& vm,
                                                                                     std::string which) {
    auto config = context_->checkpoints.find(vm, which);
    if (!config) co_return fail(std::move(config.error()));
    auto open = [place = context_->checkpoints.place_of(*config)] { return CheckpointWriter::open(place); };
    auto writer = co_await on_pool(host_.files, std::move(open));
    if (!writer) co_return fail(std::move(writer.error()));
    co_return std::make_unique<LocalCheckpointSource>(host_, std::move(*writer));
}

Awaitable<Result<std::unique_ptr<CheckpointSink>>> LocalCheckpoints::import_stream(
    const VmName& vm, CheckpointRequest request) {
    co_return co_await LocalCheckpointSink::open(host_, context_, vm, std::move(request));
}

}  // namespace noid::vm
