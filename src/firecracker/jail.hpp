#pragma once

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

}  // namespace noid::firecracker
