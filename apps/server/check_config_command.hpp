#pragma once

#include "config/server_config.hpp"

namespace noid::server {

// `noid-server check-config`: reads the configuration as `serve` would and prints what holds.
// Exit code 0, or 2 with the error on stderr. Starts nothing.
int check_config(const config::ConfigSource& source);

}  // namespace noid::server
