#include "firecracker/jail.hpp"

namespace noid::firecracker {

namespace {

// Measured: 17 MiB beside the guest's memory, 3 threads and one for each vCPU. The rest is for I/O.
constexpr std::uint64_t own_memory = 64;  // MiB
constexpr std::uint32_t own_tasks = 16;
constexpr std::uint32_t io_percent = 50;  // of a CPU, for what is not the guest's

}  // namespace

launcher::Confinement confinement(const std::filesystem::path& program, const vmm::MachineSpec& spec,
                                  const launcher::Credentials& user) {
    launcher::Confinement confinement;
    confinement.credentials = user;
    confinement.own_pids = confinement.own_ipc = confinement.own_host_name = true;
    confinement.few_system_calls = true;
    auto& root = confinement.root.emplace();
    root.readable = {program, spec.kernel};
    if (!spec.initrd.empty()) root.readable.push_back(spec.initrd);
    root.writable = {spec.directory};
    root.devices = {"/dev/kvm"};
    confinement.own_network = !spec.network;
    if (spec.network) {
        confinement.network_namespace = spec.network->netns;
        root.devices.emplace_back("/dev/net/tun");
    }
    return confinement;
}

launcher::CgroupLimits limits_of(const vmm::MachineSpec& spec) {
    return {.memory = spec.memory.bytes() + (own_memory << 20),
            .cpu_percent = spec.vcpus * 100 + io_percent,
            .tasks = spec.vcpus + own_tasks};
}

}  // namespace noid::firecracker
