#pragma once

#include <filesystem>
#include <string>

#include "base/error.hpp"
#include "base/fd.hpp"
#include "launcher/confinement.hpp"
#include "vmm/vmm.hpp"

// What a confined QEMU sees and owns: see also vmm/directory_access.hpp.
namespace noid::qemu {

// The private root of a QEMU that runs `spec`: /usr for the program, its libraries and its firmware, the
// kernel, and the VM's directory.
[[nodiscard]] launcher::Confinement confinement(const std::filesystem::path& program,
                                                const vmm::MachineSpec& spec,
                                                const launcher::Credentials& user);

// Opens the VM's directory and its disk to the user's group.
[[nodiscard]] Result<void> hand_over(const Fd& directory, const vmm::MachineSpec& spec,
                                     const launcher::Credentials& user);
}  // namespace noid::qemu
