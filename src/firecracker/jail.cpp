#include "firecracker/jail.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/file.hpp"
#include "firecracker/stdio_fifos.hpp"

namespace noid::firecracker {

namespace {

// Sets owner and mode of what `name` is itself, never of what it may point to.
Result<void> change(const Fd& directory, const std::string& name, gid_t group, mode_t mode, mode_t kind) {
    const auto file = open_file_at(directory, name, O_PATH | O_NOFOLLOW);
    if (!file) return fail(file.error());
    struct stat status {};
    if (::fstat(file->get(), &status) != 0) return fail_errno(errno, "cannot look at " + name);
    if ((status.st_mode & S_IFMT) != kind) return fail(Errc::corrupt, name + " is not what it should be");
    // chmod and chown take no O_PATH descriptors but through their names in /proc.
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
    root.readable = {program, spec.kernel};
    if (!spec.initrd.empty()) root.readable.push_back(spec.initrd);
    root.writable = {spec.directory};
    root.devices = {"/dev/kvm"};
    if (spec.network) {
        confinement.network_namespace = spec.network->netns;
        root.devices.emplace_back("/dev/net/tun");
    }
    return confinement;
}

Result<void> hand_over(const Fd& directory, const vmm::MachineSpec& spec, const launcher::Credentials& user) {
    // Sticky: only the owner of a file or of the directory removes or renames the file.
    if (::fchown(directory.get(), ::geteuid(), user.group) != 0 || ::fchmod(directory.get(), 01770) != 0)
        return fail_errno(errno, "cannot set who may use the VM's directory");
    if (auto done = let_write(directory, spec.rootfs, user); !done) return done;
    for (const auto* fifo : {input_fifo, output_fifo, log_fifo}) {
        if (auto done = change(directory, fifo, user.group, 0660, S_IFIFO); !done) return done;
    }
    return {};
}

Result<void> let_write(const Fd& directory, const std::string& name, const launcher::Credentials& user) {
    return change(directory, name, user.group, 0660, S_IFREG);
}

Result<void> seal(const Fd& directory, const vmm::SnapshotFiles& files) {
    for (const auto* name : {&files.memory, &files.state}) {
        if (auto done = change(directory, *name, ::getegid(), 0444, S_IFREG); !done) return done;
    }
    return {};
}

}  // namespace noid::firecracker
