#pragma once

#include <string>

#include "base/error.hpp"
#include "base/fd.hpp"
#include "launcher/confinement.hpp"
#include "vmm/vmm.hpp"

// What a confined Firecracker sees and owns. Its user's group is the key to the VM's directory: there it may
// make files and remove its own, while everything the server has put there stays the server's. So no name in
// it can be turned into a link to something else.
namespace noid::firecracker {

// The private root of a Firecracker that runs `spec`: the program, kernel, initrd and the VM's directory.
[[nodiscard]] launcher::Confinement confinement(const std::filesystem::path& program,
                                                const vmm::MachineSpec& spec,
                                                const launcher::Credentials& user);

// Opens the VM's directory, its disk and its FIFOs to the user's group.
[[nodiscard]] Result<void> hand_over(const Fd& directory, const vmm::MachineSpec& spec,
                                     const launcher::Credentials& user);
// Opens one file of the directory to the group for writing.
[[nodiscard]] Result<void> let_write(const Fd& directory, const std::string& name,
                                     const launcher::Credentials& user);
// Makes a snapshot's files the server's, and everybody may read them: clones, of other users, map them
// through hard links. Directories that only the server enters keep them from the rest. corrupt if one is not
// a regular file.
[[nodiscard]] Result<void> seal(const Fd& directory, const vmm::SnapshotFiles& files);

}  // namespace noid::firecracker
