#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "base/error.hpp"
#include "cli/environment.hpp"

namespace noid::cli {

// The VM that `noid use` chose for a directory and those below it. Kept in `.noid-vm`; a regular
// file `.noid` is read too (where both are, `.noid-vm` counts).
[[nodiscard]] std::optional<std::string> find_active_vm(const std::filesystem::path& directory);

// Writes `.noid-vm` in the working directory. The name is not checked.
[[nodiscard]] Result<void> set_active_vm(const Environment& environment, const std::string& name);

// `argument` when given, else the active VM, else `invalid` saying how to choose one.
[[nodiscard]] Result<std::string> vm_or_active(const std::optional<std::string>& argument,
                                               const Environment& environment);

}  // namespace noid::cli
