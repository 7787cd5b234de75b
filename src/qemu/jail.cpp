#include "qemu/jail.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "base/file.hpp"

namespace noid::qemu {

namespace {

constexpr auto system_files = "/usr";

bool lies_in(const std::filesystem::path& path, const std::filesystem::path& directory) {
    return std::mismatch(directory.begin(), directory.end(), path.begin(), path.end()).first ==
           directory.end();
}

// Sets group and mode of the regular file `name`, never of what it may point to.
Result<void> let_in(const Fd& directory, const std::string& name, gid_t group, mode_t mode) {
    const auto file = open_file_at(directory, name, O_PATH | O_NOFOLLOW);
    if (!file) return fail(file.error());
    struct stat status {};
    if (::fstat(file->get(), &status) != 0) return fail_errno(errno, "cannot look at " + name);
    if (!S_ISREG(status.st_mode)) return fail(Errc::corrupt, name + " is not a regular file");
    // fchmod and fchown take no O_PATH descriptor, but its name in /proc serves.
    const auto path = "/proc/self/fd/" + std::to_string(file->get());
    if (::chown(path.c_str(), ::geteuid(), group) != 0 || ::chmod(path.c_str(), mode) != 0)
        return fail_errno(errno, "cannot set who may use " + name);
    return {};
}

}  // namespace

launcher::Confinement confinement(const std::filesystem::path& program, const vmm::MachineSpec& spec,
                                  const launcher::Credentials& user) {
    launcher::Confinement confinement;
    confinement.credentials = user;
    confinement.own_pids = confinement.own_ipc = confinement.own_host_name = true;
    auto& root = confinement.root.emplace();
    root.readable = {system_files};
    // Where Debian keeps the loader and the libraries, as links into /usr.
    for (const auto* libraries : {"/lib", "/lib64"}) {
        if (std::filesystem::exists(libraries)) root.readable.emplace_back(libraries);
    }
    for (const auto& file : {program, spec.kernel, spec.initrd}) {
        if (!file.empty() && !lies_in(file, system_files)) root.readable.push_back(file);
    }
    root.writable = {spec.directory};
    for (const auto* device : {"/dev/kvm", "/dev/urandom"}) {
        if (std::filesystem::exists(device)) root.devices.emplace_back(device);
    }
    if (spec.network) {
        confinement.network_namespace = spec.network->netns;
        root.devices.emplace_back("/dev/net/tun");
        if (std::filesystem::exists("/dev/vhost-net")) root.devices.emplace_back("/dev/vhost-net");
    }
    return confinement;
}

Result<void> hand_over(const Fd& directory, const vmm::MachineSpec& spec, const launcher::Credentials& user) {
    // Sticky: only the owner of a file or of the directory removes or renames the file.
    if (::fchown(directory.get(), ::geteuid(), user.group) != 0 || ::fchmod(directory.get(), 01770) != 0)
        return fail_errno(errno, "cannot set who may use the VM's directory");
    return let_in(directory, spec.rootfs, user.group, 0660);
}

Result<void> let_map(const Fd& directory, const std::string& memory) {
    return let_in(directory, memory, ::getegid(), 0666);
}

}  // namespace noid::qemu
