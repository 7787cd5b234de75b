#include "qemu/jail.hpp"

#include <algorithm>

#include "vmm/directory_access.hpp"

namespace noid::qemu {

namespace {

constexpr auto system_files = "/usr";

bool lies_in(const std::filesystem::path& path, const std::filesystem::path& directory) {
    return std::mismatch(directory.begin(), directory.end(), path.begin(), path.end()).first ==
           directory.end();
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
    if (auto done = vmm::let_in(directory, user.group); !done) return done;
    return vmm::let_write(directory, spec.rootfs, user.group);
}

}  // namespace noid::qemu
