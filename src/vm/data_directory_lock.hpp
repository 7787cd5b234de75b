#pragma once

#include <filesystem>

#include "base/error.hpp"
#include "base/fd.hpp"

namespace noid::vm {

// Takes the lock of a data directory (its file `lock`) for this process, for as long as the descriptor is
// open. conflict when another server has it, with its pid; never because of one that has ended, however it
// did. What such a server left on the way to execute a VMM is ended. Blocks, for seconds at most.
[[nodiscard]] Result<Fd> lock_data_directory(const std::filesystem::path& directory);

}  // namespace noid::vm
