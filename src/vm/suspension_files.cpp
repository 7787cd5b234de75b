#include "vm/suspension_files.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <utility>

#include "base/file.hpp"

namespace noid::vm {

namespace fs = std::filesystem;

namespace {

constexpr const char* reserve_file = "wake.reserve";
constexpr off_t reserve_bytes = 512 << 10;

}  // namespace

Result<void> reserve_for_wake(const fs::path& directory) {
    const auto file = open_file(directory / reserve_file, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW);
    if (!file) return fail(file.error());
    if (const int failed = ::posix_fallocate(file->get(), 0, reserve_bytes); failed != 0)
        return fail_errno(failed, "keep space for the wake");
    return {};
}

void release_reserve(const fs::path& directory) noexcept {
    ::unlink((directory / reserve_file).c_str());
}

Result<void> move_saved_memory(const fs::path& directory, const fs::path& snapshot) {
    constexpr std::pair<const char*, const char*> names[] = {{saving_memory, memory_file},
                                                             {saving_state, state_file}};
    for (const auto& [from, to] : names) {
        if (::rename((directory / from).c_str(), (snapshot / to).c_str()) != 0)
            return fail_errno(errno, "move the saved memory");
    }
    return {};
}

Result<void> complete_save(const fs::path& directory, const SnapshotConfig& config) {
    const auto opened = open_directory(directory);
    if (!opened) return fail(opened.error());
    if (auto written = replace_file_at(*opened, saving_config, config.to_json()); !written) return written;
    for (const char* name : {saving_memory, saving_state, disk_file}) {
        const auto file = open_file_at(*opened, name, O_RDONLY);
        if (!file) return fail(file.error());
        if (auto synced = sync_data(*file); !synced) return synced;
    }
    return sync_directory(*opened);
}

Result<void> finish_suspension(const fs::path& directory) {
    const auto opened = open_directory(directory);
    if (!opened) return fail(opened.error());
    constexpr std::pair<const char*, const char*> names[] = {
        {saving_memory, memory_file}, {saving_state, state_file}, {saving_config, config_file}};
    for (const auto& [from, to] : names) {
        if (::renameat(opened->get(), from, opened->get(), to) != 0 && errno != ENOENT)
            return fail_errno(errno, "put the saved memory in place");
    }
    return sync_directory(*opened);
}

void remove_unfinished_save(const fs::path& directory) noexcept {
    for (const char* name : {saving_memory, saving_state, saving_config})
        ::unlink((directory / name).c_str());
}

Result<void> forget_memory(const fs::path& directory) {
    remove_unfinished_save(directory);
    for (const char* name : {config_file, state_file, memory_file}) {
        if (::unlink((directory / name).c_str()) != 0 && errno != ENOENT)
            return fail_errno(errno, "remove the saved memory");
    }
    return {};
}

}  // namespace noid::vm
