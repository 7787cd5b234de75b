#pragma once

#include <filesystem>
#include <optional>

#include "launcher/launcher.hpp"
#include "qemu/command_line.hpp"
#include "vmm/warden.hpp"

namespace noid::qemu {

// How `program` is started for `spec`, descriptors left out. Confined if there is a user to run as.
[[nodiscard]] launcher::ProcessSpec process_spec(const std::filesystem::path& program,
                                                 const vmm::MachineSpec& spec, const vmm::QemuStart& start,
                                                 const std::optional<launcher::Credentials>& user);

}  // namespace noid::qemu
