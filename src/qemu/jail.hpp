#pragma once

#include <filesystem>
#include <string>

#include "base/error.hpp"
#include "base/fd.hpp"
#include "launcher/confinement.hpp"
#include "vmm/vmm.hpp"

// What a confined QEMU sees and owns. Its user's group is the key to the VM's directory: there it may make
// files and remove its own, while everything that the server has put there stays the server's.
namespace noid::qemu {

// The private root of a QEMU that runs `spec`: /usr for the program, its libraries and its firmware, the
// kernel, and the VM's directory.
[[nodiscard]] launcher::Confinement confinement(const std::filesystem::path& program,
                                                const vmm::MachineSpec& spec,
                                                const launcher::Credentials& user);

// Opens the VM's directory and its disk to the user's group.
[[nodiscard]] Result<void> hand_over(const Fd& directory, const vmm::MachineSpec& spec,
                                     const launcher::Credentials& user);
// Lets any VM's user map the memory of a snapshot, which clones reach by hard links. QEMU opens it for
// writing, although it maps it private: what keeps others from writing to it is that only the server enters
// the directories it lies in. corrupt if it is not a regular file.
[[nodiscard]] Result<void> let_map(const Fd& directory, const std::string& memory);

}  // namespace noid::qemu
