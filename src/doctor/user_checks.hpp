#pragma once

#include "config/server_config.hpp"
#include "doctor/check.hpp"

namespace noid::doctor {

// Whom a server would run as that this user starts, and what it lacks.
[[nodiscard]] Finding check_server_user(const config::ServerConfig& config);

}  // namespace noid::doctor
