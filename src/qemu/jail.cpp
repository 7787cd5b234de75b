#include "qemu/jail.hpp"

#include <algorithm>

#include "qemu/command_line.hpp"

namespace noid::qemu {

namespace {

constexpr auto system_files = "/usr";
// Measured: 25 MiB beside the guest's memory and translated code, 7 threads. The rest is for I/O: pages of
// the disk, and up to 64 threads that wait for it.
constexpr std::uint64_t own_memory = 128;  // MiB
constexpr std::uint32_t own_tasks = 80;
constexpr std::uint32_t io_percent = 50;  // of a CPU, for what is not the guest's

bool lies_in(const std::filesystem::path& path, const std::filesystem::path& directory) {
    return std::mismatch(directory.begin(), directory.end(), path.begin(), path.end()).first ==
           directory.end();
}

}  // namespace

launcher::Confinement trial_confinement(const std::filesystem::path& program,
                                        const launcher::Credentials& user) {
    launcher::Confinement confinement;
    confinement.credentials = user;
    confinement.own_pids = confinement.own_ipc = confinement.own_host_name = confinement.own_network = true;
    confinement.few_system_calls = true;
    auto& root = confinement.root.emplace();
    root.readable = {system_files};
    // Where Debian keeps the loader and the libraries, as links into /usr.
    for (const auto* libraries : {"/lib", "/lib64"}) {
        if (std::filesystem::exists(libraries)) root.readable.emplace_back(libraries);
    }
    if (!lies_in(program, system_files)) root.readable.push_back(program);
    for (const auto* device : {"/dev/kvm", "/dev/null", "/dev/urandom"}) {
        if (std::filesystem::exists(device)) root.devices.emplace_back(device);
    }
    return confinement;
}

launcher::Confinement confinement(const std::filesystem::path& program, const vmm::MachineSpec& spec,
                                  const launcher::Credentials& user) {
    auto confinement = trial_confinement(program, user);
    confinement.userfaultfd = launcher::Userfaultfd::of_own_faults;
    auto& root = *confinement.root;
    for (const auto& file : {spec.kernel, spec.initrd}) {
        if (!file.empty() && !lies_in(file, system_files)) root.readable.push_back(file);
    }
    root.writable = {spec.directory};
    if (spec.network) {
        confinement.own_network = false;
        confinement.network_namespace = spec.network->netns;
        root.devices.emplace_back("/dev/net/tun");
        if (std::filesystem::exists("/dev/vhost-net")) root.devices.emplace_back("/dev/vhost-net");
    }
    return confinement;
}

launcher::CgroupLimits limits_of(const vmm::MachineSpec& spec, bool emulated) {
    const std::uint64_t overhead = emulated ? own_memory + translated_code_mib : own_memory;
    return {.memory = spec.memory.bytes() + (overhead << 20),
            .cpu_percent = spec.vcpus * 100 + io_percent,
            .tasks = spec.vcpus + own_tasks};
}

}  // namespace noid::qemu
