#pragma once

#include <filesystem>
#include <string>

#include "base/error.hpp"

namespace noid::vm {

// Which server a data directory belongs to: 32 hexadecimal digits, chosen once and kept in the directory.
// Tells netd whose slots are whose; two servers of one user never take each other's. Blocking.
[[nodiscard]] Result<std::string> server_id(const std::filesystem::path& data_directory);

}  // namespace noid::vm
