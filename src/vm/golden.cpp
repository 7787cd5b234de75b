#include "vm/golden.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "base/file.hpp"
#include "vm/data_directory.hpp"
#include "volume/pool.hpp"

namespace noid::vm {

namespace fs = std::filesystem;

namespace {

constexpr const char* next_name = "golden.next";
constexpr const char* draft_id = "golden";

Result<std::optional<SnapshotConfig>> look_at(const fs::path& directory) {
    auto config = read_snapshot(directory);
    if (config) return std::move(*config);
    if (config.error().code == Errc::not_found) return std::nullopt;
    return fail(std::move(config.error()).at(directory.filename().string()));
}

bool is_checkpoint_id(std::string_view text) {
    return text.size() == 16 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

Result<void> exchange(const fs::path& one, const fs::path& other) {
    if (::renameat2(AT_FDCWD, one.c_str(), AT_FDCWD, other.c_str(), RENAME_EXCHANGE) != 0)
        return fail_errno(errno, "exchange golden");
    return {};
}

}  // namespace

Result<Golden> Golden::open(const fs::path& data_dir) {
    auto lock = open_file(data_dir / "golden.lock", O_RDWR | O_CREAT);
    if (!lock) return fail(std::move(lock.error()));
    if (::flock(lock->get(), LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK) return fail(Errc::conflict, "golden is being changed by another program");
        return fail_errno(errno, "lock golden");
    }
    auto storage = volume::storage_root(data_dir);
    if (!storage) return fail(std::move(storage.error()));
    Golden golden{std::move(*storage), std::move(*lock)};
    if (::mkdir(golden.present().c_str(), 0700) != 0 && errno != EEXIST)
        return fail_errno(errno, "create the directory of golden");
    return golden;
}

Result<Golden::Status> Golden::status() const {
    auto now = look_at(present());
    if (!now) return fail(std::move(now.error()));
    auto before = look_at(previous());
    if (!before) before = std::nullopt;
    return Status{std::move(*now), std::move(*before)};
}

Result<fs::path> Golden::find_checkpoint(std::string_view id) const {
    if (!is_checkpoint_id(id)) return fail(Errc::invalid, "a checkpoint's id has 16 hexadecimal digits");
    auto users = names_in(storage_ / "users");
    if (!users) return fail(std::move(users.error()));
    for (const std::string& user : *users) {
        const fs::path checkpoints = TenantPaths{storage_ / "users" / user}.checkpoints();
        auto vms = names_in(checkpoints);
        if (!vms) continue;
        for (const std::string& vm : *vms) {
            std::error_code ignored;
            const fs::path place = checkpoints / vm / id;
            if (!vm.starts_with('.') && fs::is_directory(place, ignored)) return place;
        }
    }
    return fail(Errc::not_found, fmt::format("checkpoint '{}' not found", id));
}

// `next` becomes golden, golden the previous one. Golden is there at every instant.
Result<void> Golden::succeed(const fs::path& next) const {
    if (auto swapped = exchange(next, present()); !swapped) return swapped;
    // Now `next` is what was golden.
    if (auto removed = remove_tree(previous()); !removed) return removed;
    if (::rename(next.c_str(), previous().c_str()) != 0) return fail_errno(errno, "keep the previous golden");
    const auto directory = open_directory(storage_);
    if (!directory) return fail(directory.error());
    return sync_directory(*directory);
}

Result<SnapshotConfig> Golden::promote(std::string_view checkpoint_id) const {
    const auto place = find_checkpoint(checkpoint_id);
    if (!place) return fail(place.error());
    auto config = read_snapshot(*place);
    if (!config) return config;
    if (!config->has_memory)
        return fail(Errc::invalid, "the checkpoint is of a VM that was not running; golden needs its memory");
    const fs::path next = storage_ / next_name;
    for (const fs::path& left : {next, SnapshotDraft::place(storage_, draft_id)}) {
        if (auto removed = remove_tree(left); !removed) return fail(std::move(removed.error()));
    }

    const auto directory = open_directory(storage_);
    if (!directory) return fail(directory.error());
    auto volume = volume::probe(*directory);
    if (!volume) return fail(std::move(volume.error()));
    auto draft = SnapshotDraft::create(storage_, draft_id);
    if (!draft) return fail(std::move(draft.error()));
    if (auto unfolded = unfold_snapshot(**volume, *place, draft->directory()); !unfolded)
        return fail(std::move(unfolded.error()));
    // What was the VM's own does not go to everybody.
    config->vm_id.clear();
    config->vm_name.clear();
    config->name.clear();
    config->parent.clear();
    config->env.clear();
    if (auto published = draft->publish(*config, next); !published) return fail(std::move(published.error()));
    if (auto done = succeed(next); !done) return fail(std::move(done.error()));
    return config;
}

Result<SnapshotConfig> Golden::rollback() const {
    auto config = look_at(previous());
    if (!config) return fail(std::move(config.error()));
    if (!*config) return fail(Errc::not_found, "there is no previous golden");
    if (auto swapped = exchange(previous(), present()); !swapped) return fail(std::move(swapped.error()));
    return std::move(**config);
}

Result<void> Golden::clear() const {
    const fs::path next = storage_ / next_name;
    if (auto removed = remove_tree(next); !removed) return removed;
    if (::mkdir(next.c_str(), 0700) != 0) return fail_errno(errno, "create the directory of golden");
    return succeed(next);
}

}  // namespace noid::vm
