#pragma once

#include <filesystem>
#include <string>

#include "base/error.hpp"
#include "base/fd.hpp"
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

// What that QEMU and its guest may use together. `emulated`: QEMU emulates the CPU, and translates code.
[[nodiscard]] launcher::CgroupLimits limits_of(const vmm::MachineSpec& spec, bool emulated);

// Opens the VM's directory and its disk to the user's group.
[[nodiscard]] Result<void> hand_over(const Fd& directory, const vmm::MachineSpec& spec,
                                     const launcher::Credentials& user);
}  // namespace noid::qemu
