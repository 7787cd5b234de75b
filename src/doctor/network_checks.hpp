#pragma once

#include <vector>

#include "config/server_config.hpp"
#include "doctor/check.hpp"

namespace noid::doctor {

// Whether VMs get a network: noid-netd answers this user, and what it finds wrong itself. What is missing
// is a warning, since VMs run without. Blocks for at most some seconds.
[[nodiscard]] std::vector<Finding> check_network(const config::ServerConfig& config);

}  // namespace noid::doctor
