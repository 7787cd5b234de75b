#include "vmm/directory_access.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "base/file.hpp"

namespace noid::vmm {

namespace {

Result<void> change(const Fd& directory, const std::string& name, gid_t group, mode_t mode, mode_t kind) {
    const auto file = open_file_at(directory, name, O_PATH | O_NOFOLLOW);
    if (!file) return fail(file.error());
    struct stat status {};
    if (::fstat(file->get(), &status) != 0) return fail_errno(errno, "cannot look at " + name);
    if ((status.st_mode & S_IFMT) != kind) return fail(Errc::corrupt, name + " is not what it should be");
    // chown and chmod take no O_PATH descriptors but through their names in /proc.
    const auto path = "/proc/self/fd/" + std::to_string(file->get());
    if (::chown(path.c_str(), ::geteuid(), group) != 0 || ::chmod(path.c_str(), mode) != 0)
        return fail_errno(errno, "cannot set who may use " + name);
    return {};
}

}  // namespace

Result<void> let_in(const Fd& directory, gid_t group) {
    if (::fchown(directory.get(), ::geteuid(), group) != 0 || ::fchmod(directory.get(), 01770) != 0)
        return fail_errno(errno, "cannot set who may use the VM's directory");
    return {};
}

Result<void> let_write(const Fd& directory, const std::string& name, gid_t group, mode_t kind) {
    return change(directory, name, group, 0660, kind);
}

Result<void> seal(const Fd& directory, const std::string& name) {
    return change(directory, name, ::getegid(), 0444, S_IFREG);
}

}  // namespace noid::vmm
