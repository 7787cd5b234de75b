#include "launcher/private_root.hpp"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/file.hpp"

namespace noid::launcher {

namespace {

// Where the tmpfs is mounted before it becomes the root. In a mount namespace of its own nobody sees what it
// covers.
constexpr const char* building_site = "/tmp";

std::string below_root(const std::filesystem::path& path) {
    return path.relative_path().string();
}

Result<void> check_path(const std::filesystem::path& path) {
    if (!path.is_absolute() || path != path.lexically_normal() || !path.has_filename())
        return fail(Errc::invalid, "a private root takes plain absolute paths: " + path.string());
    return {};
}

bool set_read_only(int mount, const char* path, unsigned flags) {
    mount_attr attributes{};
    attributes.attr_set = MOUNT_ATTR_RDONLY;
    return ::mount_setattr(mount, path, flags, &attributes, sizeof attributes) == 0;
}

}  // namespace

bool make_empty_root() noexcept {
    if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("tmpfs", building_site, "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=755,size=1m") != 0)
        return false;
    // The old root ends up above the new one at the same place, and goes (pivot_root(2), NOTES).
    return ::chdir(building_site) == 0 && ::syscall(SYS_pivot_root, ".", ".") == 0 &&
           ::umount2(".", MNT_DETACH) == 0 && ::chdir("/") == 0;
}

Result<PreparedRoot> PreparedRoot::prepare(const PrivateRoot& root, const std::optional<Credentials>& owner) {
    PreparedRoot prepared;
    prepared.owner_ = owner.value_or(Credentials{::geteuid(), ::getegid()});
    for (const auto& path : root.readable) {
        if (auto added = prepared.add_entry(path, false); !added) return fail(std::move(added.error()));
    }
    for (const auto& path : root.writable) {
        if (auto added = prepared.add_entry(path, true); !added) return fail(std::move(added.error()));
    }
    for (const auto& [path, directory] : root.opened) {
        if (auto right = check_path(path); !right) return fail(std::move(right.error()));
        Fd tree{::open_tree(directory.get(), "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)};
        if (!tree) return fail_errno(errno, "cannot take " + path.string() + " into a private root");
        if (auto added = prepared.add_tree(path, std::move(tree), true); !added)
            return fail(std::move(added.error()));
    }
    for (const auto& path : root.devices) {
        if (auto added = prepared.add_device(path); !added) return fail(std::move(added.error()));
    }
    for (const auto& [path, content] : root.files) {
        if (auto right = check_path(path); !right) return fail(std::move(right.error()));
        prepared.add_parents(path);
        prepared.files_.push_back({below_root(path), content});
    }
    return prepared;
}

Result<void> PreparedRoot::add_entry(const std::filesystem::path& path, bool writable) {
    if (auto right = check_path(path); !right) return right;
    Fd tree{::open_tree(AT_FDCWD, path.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)};
    if (!tree) return fail_errno(errno, "cannot take " + path.string() + " into a private root");
    return add_tree(path, std::move(tree), writable);
}

Result<void> PreparedRoot::add_tree(const std::filesystem::path& path, Fd tree, bool writable) {
    mount_attr attributes{};
    attributes.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (writable ? 0U : MOUNT_ATTR_RDONLY);
    attributes.propagation = MS_PRIVATE;
    struct stat status {};
    if (::mount_setattr(tree.get(), "", AT_EMPTY_PATH, &attributes, sizeof attributes) != 0 ||
        ::fstat(tree.get(), &status) != 0)
        return fail_errno(errno, "cannot restrict " + path.string() + " for a private root");
    const bool is_directory = S_ISDIR(status.st_mode);
    add_parents(is_directory ? path / "." : path);
    entries_.push_back({std::move(tree), below_root(path), is_directory});
    return {};
}

Result<void> PreparedRoot::add_device(const std::filesystem::path& path) {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) return fail_errno(errno, "cannot find device " + path.string());
    if (!S_ISCHR(status.st_mode)) return fail(Errc::invalid, path.string() + " is not a character device");
    add_parents(path);
    devices_.push_back({below_root(path), status.st_rdev});
    return {};
}

// All directories above `path`.
void PreparedRoot::add_parents(const std::filesystem::path& path) {
    std::filesystem::path directory;
    for (const auto& part : path.parent_path().relative_path()) {
        directory /= part;
        auto name = directory.string();
        if (std::ranges::find(directories_, name) == directories_.end())
            directories_.push_back(std::move(name));
    }
}

bool PreparedRoot::fill() const noexcept {
    const mode_t inherited_mask = ::umask(022);
    for (const auto& directory : directories_) {
        if (::mkdir(directory.c_str(), 0755) != 0) return false;
    }
    for (const auto& device : devices_) {
        if (::mknod(device.target.c_str(), S_IFCHR | 0600, device.number) != 0 ||
            ::chown(device.target.c_str(), owner_.user, owner_.group) != 0)
            return false;
    }
    for (const auto& [target, content] : files_) {
        const int file = ::open(target.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0444);
        if (file < 0 || ::write(file, content.data(), content.size()) != static_cast<ssize_t>(content.size()))
            return false;
        ::close(file);
    }
    for (const auto& entry : entries_) {
        if (!entry.is_directory) {
            const int file = ::open(entry.target.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0444);
            if (file < 0) return false;
            ::close(file);
        }
        if (::move_mount(entry.tree.get(), "", AT_FDCWD, entry.target.c_str(), MOVE_MOUNT_F_EMPTY_PATH) != 0)
            return false;
    }
    ::umask(inherited_mask);
    return set_read_only(AT_FDCWD, "/", 0);
}

}  // namespace noid::launcher
