#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cli/arguments.hpp"

namespace noid::cli {

// A script that makes `shell` ("bash", "zsh", "fish") complete the commands, their options and the
// names of VMs, which it asks `noid list --quiet` for.
[[nodiscard]] std::string completion_script(std::string_view shell,
                                            const std::vector<CommandDescription>& commands);

}  // namespace noid::cli
