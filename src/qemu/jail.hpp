#pragma once

#include <filesystem>

#include "launcher/cgroup.hpp"
#include "launcher/confinement.hpp"
#include "vmm/vmm.hpp"

// What a confined QEMU sees and owns: see also vmm/directory_access.hpp.
namespace noid::qemu {

// The private root of a QEMU that runs `spec`: /usr for the program, its libraries and its firmware, the
// kernel, and the VM's directory.
[[nodiscard]] launcher::Confinement confinement(const std::filesystem::path& program,
                                                const vmm::MachineSpec& spec,
                                                const launcher::Credentials& user);

// That of a QEMU that runs no VM but only tells something of itself or of the host.
[[nodiscard]] launcher::Confinement trial_confinement(const std::filesystem::path& program,
                                                      const launcher::Credentials& user);

// What that QEMU and its guest may use together. `emulated`: QEMU emulates the CPU, and translates code.
[[nodiscard]] launcher::CgroupLimits limits_of(const vmm::MachineSpec& spec, bool emulated);

}  // namespace noid::qemu
