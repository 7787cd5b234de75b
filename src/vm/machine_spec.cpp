#include "vm/machine_spec.hpp"

#include <utility>

#include "vm/snapshot.hpp"

namespace noid::vm {

vmm::MachineSpec machine_spec(const config::ServerConfig& config, std::string id,
                              std::filesystem::path directory, std::uint32_t cpus, MiB memory,
                              const std::optional<Slot>& slot) {
    vmm::MachineSpec spec;
    spec.id = std::move(id);
    spec.directory = std::move(directory);
    spec.vcpus = cpus;
    spec.memory = memory;
    spec.kernel = config.paths.kernel;
    spec.initrd = config.paths.initrd;
    spec.kernel_arguments = "noid.init=" + config.guest.init;
    if (!config.guest.extra_kernel_arguments.empty()) {
        spec.kernel_arguments += " " + config.guest.extra_kernel_arguments;
    }
    spec.rootfs = disk_file;
    spec.track_dirty_pages = true;  // what incremental saves are made of
    if (slot) spec.network = slot->attachment;
    return spec;
}

}  // namespace noid::vm
