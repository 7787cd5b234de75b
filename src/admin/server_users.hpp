#pragma once

#include <filesystem>
#include <memory>

#include "admin/users.hpp"

namespace noid::admin {

// Asks the server that serves `data_dir`, over the administration socket in it. not_found or
// unavailable when no server listens there. Used on the executor it was connected on.
[[nodiscard]] Awaitable<Result<std::unique_ptr<Users>>> connect_to_server(std::filesystem::path data_dir);

}  // namespace noid::admin
