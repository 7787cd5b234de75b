#include "vm/data_directory.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <utility>

#include "vm/data_directory_lock.hpp"
#include "volume/pool.hpp"

namespace noid::vm {

namespace fs = std::filesystem;

namespace {

Result<void> make_directory(const fs::path& path) {
    if (::mkdir(path.c_str(), 0700) == 0) return {};
    if (errno != EEXIST) return fail_errno(errno, fmt::format("create directory {}", path.string()));
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0)
        return fail_errno(errno, fmt::format("look at {}", path.string()));
    if (!S_ISDIR(status.st_mode))
        return fail(Errc::conflict, fmt::format("{} is not a directory", path.string()));
    return {};
}

// Unless root shares it with us, and so has seen to that already (privileged/data_directory.hpp).
Result<void> make_private(const fs::path& path) {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0)
        return fail_errno(errno, fmt::format("look at {}", path.string()));
    if (status.st_uid != ::geteuid()) return {};
    if (status.st_uid == 0 && (status.st_mode & S_ISVTX) != 0) return {};
    if (::chmod(path.c_str(), 0700) != 0)
        return fail_errno(errno, fmt::format("make {} private", path.string()));
    return {};
}

// What is in a directory of ours.
struct Content {
    std::vector<fs::path> directories;  // ours again
    bool has_others = false;            // something that is not ours
};

Result<Content> look_into(const fs::path& directory) {
    const auto names = names_in(directory);
    if (!names) return fail(names.error());
    Content content;
    for (const std::string& name : *names) {
        struct stat status {};
        if (::lstat((directory / name).c_str(), &status) != 0) continue;  // gone meanwhile
        if (status.st_uid != ::geteuid())
            content.has_others = true;
        else if (S_ISDIR(status.st_mode))
            content.directories.push_back(directory / name);
    }
    return content;
}

// VMMs cannot give us what they make: whatever is not ours is in a directory that is, and all of those are
// gone through.
Result<void> take_back(const fs::path& tree, vmm::Warden& warden) {
    std::vector<fs::path> to_do{tree};
    while (!to_do.empty()) {
        const fs::path directory = std::move(to_do.back());
        to_do.pop_back();
        auto content = look_into(directory);
        if (content && content->has_others) {
            for (auto done = vmm::Reclaimed::a_part; done == vmm::Reclaimed::a_part;) {
                const auto reclaimed = warden.reclaim(directory);
                if (!reclaimed) return fail(reclaimed.error());
                done = *reclaimed;
            }
            content = look_into(directory);
        }
        if (!content) return fail(std::move(content.error()));
        std::ranges::move(content->directories, std::back_inserter(to_do));
    }
    return {};
}

}  // namespace

fs::path TenantPaths::trash(std::string_view unique) const {
    return vms() / fmt::format(".trash-{}", unique);
}
fs::path TenantPaths::successor(std::string_view vm_id) const {
    return vms() / fmt::format(".next-{}", vm_id);
}
fs::path TenantPaths::console_log(const VmName& name) const {
    return logs() / (name.text() + ".log");
}

Result<void> TenantPaths::create() const {
    for (const fs::path& path : {directory_, vms(), checkpoints(), logs()}) {
        if (auto made = make_directory(path); !made) return made;
    }
    return {};
}

Result<DataDirectory> DataDirectory::open(fs::path path) {
    std::error_code failed;
    if (path.has_parent_path()) fs::create_directories(path.parent_path(), failed);
    if (failed)
        return fail_errno(failed.value(), fmt::format("create directory {}", path.parent_path().string()));
    if (auto made = make_directory(path); !made) return fail(std::move(made.error()));
    if (auto closed = make_private(path); !closed) return fail(std::move(closed.error()));
    auto lock = lock_data_directory(path);
    if (!lock) return fail(std::move(lock.error()));
    auto storage = volume::storage_root(path);
    if (!storage) return fail(std::move(storage.error()));
    DataDirectory directory{std::move(path), std::move(*storage), std::move(*lock)};
    for (const fs::path& part : {directory.images(), directory.users(), directory.golden(),
                                 directory.templates(), directory.warm()}) {
        if (auto made = make_directory(part); !made) return fail(std::move(made.error()));
    }
    return directory;
}

Result<void> take_place(const fs::path& successor, const fs::path& place, const fs::path& trash,
                        vmm::Warden& warden) {
    std::error_code ignored;
    if (!fs::is_directory(successor, ignored)) return {};
    if (auto removed = remove_tree(trash, warden); !removed) return removed;
    if (::rename(place.c_str(), trash.c_str()) != 0 && errno != ENOENT)
        return fail_errno(errno, "move the directory away");
    if (::rename(successor.c_str(), place.c_str()) != 0)
        return fail_errno(errno, "put the directory in place");
    // It is in nobody's way, and the next start of the server tries again.
    (void)remove_tree(trash, warden);
    return {};
}

Result<void> remove_tree(const fs::path& path) {
    // What somebody else removes or renames meanwhile is gone, which is what is wanted: then the rest is
    // gone through again. More often than this nobody gets in between.
    constexpr int passes = 8;
    std::error_code failed;
    for (int pass = 0; pass < passes; ++pass) {
        fs::remove_all(path, failed);
        if (failed != std::errc::no_such_file_or_directory) break;
    }
    if (failed) return fail_errno(failed.value(), fmt::format("remove {}", path.filename().string()));
    return {};
}

Result<void> remove_tree(const fs::path& path, vmm::Warden& warden) {
    auto removed = remove_tree(path);
    if (removed || !warden.confines()) return removed;
    if (auto taken = take_back(path, warden); !taken) return taken;
    return remove_tree(path);
}

Result<std::vector<std::string>> names_in(const fs::path& directory) {
    std::error_code failed;
    std::vector<std::string> names;
    for (fs::directory_iterator entry{directory, failed}, end; !failed && entry != end;
         entry.increment(failed)) {
        names.push_back(entry->path().filename().string());
    }
    if (failed) return fail_errno(failed.value(), fmt::format("list {}", directory.string()));
    return names;
}

}  // namespace noid::vm
