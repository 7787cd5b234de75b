#pragma once

#include <filesystem>

#include "base/error.hpp"
#include "base/fd.hpp"

namespace noid::net {

// Held while a daemon, or cleanup, is at work with this state directory, which is made if need be. conflict:
// another has it.
[[nodiscard]] Result<Fd> take_state_lock(const std::filesystem::path& state_dir);

}  // namespace noid::net
