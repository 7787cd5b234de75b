#pragma once

#include <string>

#include "base/error.hpp"
#include "base/fd.hpp"
#include "launcher/cgroup.hpp"
#include "launcher/confinement.hpp"
#include "vmm/vmm.hpp"

// What a confined Firecracker sees and owns: see also vmm/directory_access.hpp.
namespace noid::firecracker {

// The private root of a Firecracker that runs `spec`: the program, kernel, initrd and the VM's directory.
[[nodiscard]] launcher::Confinement confinement(const std::filesystem::path& program,
                                                const vmm::MachineSpec& spec,
                                                const launcher::Credentials& user);

// What that Firecracker and its guest may use together.
[[nodiscard]] launcher::CgroupLimits limits_of(const vmm::MachineSpec& spec);

// Opens the VM's directory, its disk and its FIFOs to the user's group.
[[nodiscard]] Result<void> hand_over(const Fd& directory, const vmm::MachineSpec& spec,
                                     const launcher::Credentials& user);
// Of both files of a snapshot: see vmm::seal().
[[nodiscard]] Result<void> seal(const Fd& directory, const vmm::SnapshotFiles& files);

}  // namespace noid::firecracker
