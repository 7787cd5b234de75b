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

// How it is asked for its version, and made to run the trial guest: confined as for a VM.
[[nodiscard]] launcher::ProcessSpec version_spec(const std::filesystem::path& program,
                                                 const std::optional<launcher::Credentials>& user);
[[nodiscard]] Result<launcher::ProcessSpec> trial_spec(const std::filesystem::path& program,
                                                       const std::optional<launcher::Credentials>& user);
// The exit status of a QEMU whose trial guest ran.
inline constexpr int trial_exit_status = (0x2a << 1) | 1;  // what isa-debug-exit makes of the 42 it is told

}  // namespace noid::qemu
