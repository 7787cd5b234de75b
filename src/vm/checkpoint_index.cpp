#include "vm/checkpoint_index.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "base/log.hpp"
#include "vm/data_directory.hpp"

namespace noid::vm {

namespace {

constexpr std::size_t least_prefix = 4;

Error not_found(std::string_view which) {
    return {Errc::not_found, fmt::format("checkpoint '{}' not found", which)};
}

// What a change of its name or label had begun when the server was killed (write_snapshot_config).
void sweep(const std::filesystem::path& checkpoint) {
    const auto names = names_in(checkpoint);
    if (!names) return;
    for (const std::string& name : *names) {
        if (!name.starts_with(std::string{config_file} + ".")) continue;
        if (auto removed = remove_tree(checkpoint / name); !removed)
            log::warn("remains in a checkpoint stay", {{"reason", removed.error().full()}});
    }
}

}  // namespace

Result<void> CheckpointIndex::load() {
    auto vms = names_in(directory_);
    if (!vms) return fail(std::move(vms.error()));
    for (const std::string& vm : *vms) {
        if (vm.starts_with('.')) {  // unfinished, or on its way out
            if (auto removed = remove_tree(directory_ / vm); !removed)
                log::warn("remains of a checkpoint stay", {{"reason", removed.error().full()}});
            continue;
        }
        auto ids = names_in(directory_ / vm);
        if (!ids) return fail(std::move(ids.error()));
        if (ids->empty()) ::rmdir((directory_ / vm).c_str());
        for (const std::string& id : *ids) {
            sweep(directory_ / vm / id);
            auto config = read_snapshot(directory_ / vm / id);
            if (config && (config->id != id || config->vm_name != vm))
                config = fail(Errc::corrupt, "config.json names another checkpoint");
            if (!config) {
                log::error("directory is no checkpoint",
                           {{"vm", vm}, {"name", id}, {"reason", config.error().full()}});
                continue;
            }
            put(std::move(*config));
        }
    }
    return {};
}

std::vector<SnapshotConfig> CheckpointIndex::all() const {
    std::vector<SnapshotConfig> all;
    const std::lock_guard lock{mutex_};
    for (const auto& [id, config] : by_id_) all.push_back(config);
    return all;
}

std::vector<SnapshotConfig> CheckpointIndex::of(const VmName& vm) const {
    std::vector<SnapshotConfig> found;
    {
        const std::lock_guard lock{mutex_};
        for (const auto& [id, config] : by_id_) {
            if (config.vm_name == vm.text()) found.push_back(config);
        }
    }
    std::ranges::stable_sort(found, {}, [](const SnapshotConfig& config) { return config.created_us; });
    return found;
}

Result<SnapshotConfig> CheckpointIndex::find(const VmName& vm, std::string_view which) const {
    const std::lock_guard lock{mutex_};
    if (const auto exact = by_id_.find(std::string{which}); exact != by_id_.end()) return exact->second;
    const SnapshotConfig* found = nullptr;
    for (const auto& [id, config] : by_id_) {
        if (config.vm_name == vm.text() && !config.name.empty() && config.name == which) return config;
        if (which.size() < least_prefix || !id.starts_with(which)) continue;
        if (found != nullptr)
            return fail(Errc::conflict, fmt::format("'{}' fits more than one checkpoint", which));
        found = &config;
    }
    if (found == nullptr) return fail(not_found(which));
    return *found;
}

bool CheckpointIndex::contains(std::string_view id) const {
    const std::lock_guard lock{mutex_};
    return by_id_.contains(std::string{id});
}

Result<CheckpointIndex::NameHold> CheckpointIndex::hold_name(const VmName& vm, const std::string& name) {
    if (name.empty()) return NameHold{nullptr, {}};
    if (auto valid = VmName::parse(name); !valid)
        return fail(Errc::invalid, "a checkpoint's name follows the rule of VM names");
    const std::lock_guard lock{mutex_};
    HeldName wanted{vm.text(), name};
    const bool taken = std::ranges::any_of(by_id_, [&](const auto& entry) {
        return entry.second.vm_name == wanted.first && entry.second.name == wanted.second;
    });
    if (taken || std::ranges::find(held_, wanted) != held_.end())
        return fail(Errc::conflict, fmt::format("checkpoint '{}' already exists", name));
    held_.push_back(wanted);
    return NameHold{this, std::move(wanted)};
}

CheckpointIndex::NameHold::~NameHold() {
    if (index_ == nullptr) return;
    const std::lock_guard lock{index_->mutex_};
    std::erase(index_->held_, name_);
}

Result<SnapshotConfig> CheckpointIndex::change(const std::string& id,
                                               const std::function<void(SnapshotConfig&)>& change) {
    const std::lock_guard one_at_a_time{changing_};
    SnapshotConfig config;
    {
        const std::lock_guard lock{mutex_};
        const auto found = by_id_.find(id);
        if (found == by_id_.end()) return fail(not_found(id));
        config = found->second;
    }
    change(config);
    if (auto written = write_snapshot_config(place_of(config), config); !written)
        return fail(std::move(written.error()));
    const std::lock_guard lock{mutex_};
    // Unless it was removed meanwhile.
    if (const auto found = by_id_.find(id); found != by_id_.end()) found->second = config;
    return config;
}

void CheckpointIndex::put(SnapshotConfig config) {
    const std::lock_guard lock{mutex_};
    std::string id = config.id;
    by_id_.insert_or_assign(std::move(id), std::move(config));
}

Result<void> CheckpointIndex::remove(const SnapshotConfig& config) {
    const std::filesystem::path place = place_of(config);
    const std::filesystem::path trash = directory_ / (".trash-" + config.id);
    {
        const auto unchanged = hold_changes();
        if (::rename(place.c_str(), trash.c_str()) != 0 && errno != ENOENT)
            return fail_errno(errno, "move the checkpoint away");
        erase(config.id);
    }
    if (auto removed = remove_tree(trash); !removed) {
        // It is in nobody's way, and the next start of the server tries again.
        log::warn("checkpoint's files are left in the trash", {{"reason", removed.error().full()}});
    }
    return {};
}

void CheckpointIndex::erase(const std::string& id) {
    const std::lock_guard lock{mutex_};
    by_id_.erase(id);
}

}  // namespace noid::vm
