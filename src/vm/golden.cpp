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

constexpr const char* draft_id = "golden";
constexpr const char* unfinished_intent = "golden.intent.new";
constexpr std::size_t largest_intent = 64;

Result<std::optional<SnapshotConfig>> look_at(const fs::path& directory) {
    auto config = read_snapshot(directory);
    if (config) return std::move(*config);
    if (config.error().code == Errc::not_found) return std::nullopt;
    return fail(std::move(config.error()).at(directory.filename().string()));
}

// Of the snapshot in a directory; empty when there is none that can be used.
std::string id_of(const fs::path& directory) {
    const auto config = read_snapshot(directory);
    return config ? config->id : std::string{};
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
    if (auto recovered = golden.recover(); !recovered)
        return fail(std::move(recovered.error()).at("finish an interrupted change of golden"));
    return golden;
}

std::vector<fs::path> Golden::remains(const fs::path& storage) {
    return {storage / "golden.intent", storage / unfinished_intent, storage / "golden.next",
            SnapshotDraft::place(storage, draft_id)};
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

Result<void> Golden::sync() const {
    const auto directory = open_directory(storage_);
    if (!directory) return fail(directory.error());
    return sync_directory(*directory);
}

// next() becomes golden, golden the previous one. Golden is there at every instant. After the exchange only
// the intent tells that next() is what was golden.
Result<void> Golden::succeed(std::string_view id) const {
    auto swapped = note(id);
    if (swapped) swapped = exchange(next(), present());
    if (!swapped) {
        (void)recover();  // takes it back; what a full disk keeps it from, the next open() does
        return swapped;
    }
    if (auto synced = sync(); !synced) return synced;
    return conclude();
}

// Not by replace_file_at(): the name it uses meanwhile would not be known to who has to remove it.
Result<void> Golden::note(std::string_view id) const {
    const fs::path unfinished = storage_ / unfinished_intent;
    {
        const auto file = open_file(unfinished, O_WRONLY | O_CREAT | O_TRUNC);
        if (!file) return fail(file.error());
        if (auto written = write_all(*file, id); !written) return written;
        if (auto synced = sync_data(*file); !synced) return synced;
    }
    if (::rename(unfinished.c_str(), intent().c_str()) != 0)
        return fail_errno(errno, "note the change of golden");
    return sync();
}

// After the exchange, any number of times: next() is what was golden, or gone already.
Result<void> Golden::conclude() const {
    if (const std::string old = id_of(next()); old.empty() || old == id_of(present())) {
        if (auto removed = remove_tree(next()); !removed) return removed;
    } else {
        if (auto removed = remove_tree(previous()); !removed) return removed;
        if (::rename(next().c_str(), previous().c_str()) != 0)
            return fail_errno(errno, "keep the previous golden");
    }
    if (auto synced = sync(); !synced) return synced;
    if (auto removed = remove_tree(intent()); !removed) return removed;
    return sync();
}

Result<void> Golden::recover() const {
    auto intended = read_file(intent(), largest_intent);
    if (!intended && intended.error().code != Errc::not_found) return fail(std::move(intended.error()));
    if (intended && *intended == id_of(present())) return conclude();
    for (const fs::path& left : remains(storage_)) {
        if (auto removed = remove_tree(left); !removed) return removed;
    }
    return {};
}

Result<SnapshotConfig> Golden::promote(std::string_view checkpoint_id) const {
    const auto place = find_checkpoint(checkpoint_id);
    if (!place) return fail(place.error());
    auto config = read_snapshot(*place);
    if (!config) return config;
    if (!config->has_memory)
        return fail(Errc::invalid, "the checkpoint is of a VM that was not running; golden needs its memory");
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
    if (auto published = draft->publish(*config, next()); !published)
        return fail(std::move(published.error()));
    if (auto done = succeed(config->id); !done) return fail(std::move(done.error()));
    return config;
}

Result<SnapshotConfig> Golden::rollback() const {
    auto config = look_at(previous());
    if (!config) return fail(std::move(config.error()));
    if (!*config) return fail(Errc::not_found, "there is no previous golden");
    if (auto swapped = exchange(previous(), present()); !swapped) return fail(std::move(swapped.error()));
    if (auto synced = sync(); !synced) return fail(std::move(synced.error()));
    return std::move(**config);
}

Result<void> Golden::clear() const {
    std::error_code failed;
    if (fs::is_empty(present(), failed)) return {};
    if (failed) return fail_errno(failed.value(), "look into golden");
    if (::mkdir(next().c_str(), 0700) != 0) return fail_errno(errno, "create the directory of golden");
    return succeed("");
}

}  // namespace noid::vm
