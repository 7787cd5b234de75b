#pragma once

#include <filesystem>
#include <optional>

#include "launcher/launcher.hpp"
#include "vmm/vmm.hpp"

namespace noid::firecracker {

// How `program` is started for `spec`, descriptors left out. Confined if there is a user to run as.
[[nodiscard]] launcher::ProcessSpec process_spec(const std::filesystem::path& program,
                                                 const vmm::MachineSpec& spec,
                                                 const std::optional<launcher::Credentials>& user);
// How it is asked for its version: confined as a VM's is, because not every program runs like that.
[[nodiscard]] launcher::ProcessSpec version_spec(const std::filesystem::path& program,
                                                 const std::optional<launcher::Credentials>& user);

}  // namespace noid::firecracker
