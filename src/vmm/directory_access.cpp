#include "vmm/directory_access.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "base/file.hpp"

namespace noid::vmm {

namespace {

Result<void> change(const Fd& directory, const std::string& name, mode_t mode) {
    const auto file = open_file_at(directory, name, O_PATH | O_NOFOLLOW);
    if (!file) return fail(file.error());
    struct stat status {};
    if (::fstat(file->get(), &status) != 0) return fail_errno(errno, "cannot look at " + name);
    if (!S_ISREG(status.st_mode)) return fail(Errc::corrupt, name + " is not what it should be");
    // chmod takes no O_PATH descriptors but through their names in /proc.
    const auto path = "/proc/self/fd/" + std::to_string(file->get());
    if (::chmod(path.c_str(), mode) != 0) return fail_errno(errno, "cannot set who may use " + name);
    return {};
}

}  // namespace

Result<void> let_in(const Fd& directory, gid_t group, Makes makes) {
    const mode_t mode = makes == Makes::files ? 03770 : 02750;
    if (::fchown(directory.get(), static_cast<uid_t>(-1), group) != 0 || ::fchmod(directory.get(), mode) != 0)
        return fail_errno(errno, "cannot set who may use the VM's directory");
    return {};
}

Result<void> let_write(const Fd& directory, const std::string& name) {
    return change(directory, name, 0660);
}

Result<void> seal(const Fd& directory, const std::string& name) {
    return change(directory, name, 0444);
}

}  // namespace noid::vmm
