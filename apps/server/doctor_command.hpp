#pragma once

#include "config/server_config.hpp"

namespace noid::server {

// `noid-server doctor`: tries what Noid needs of this host and says for each what to do.
// Exit code 0, 1 when something needed cannot work, 2 for a configuration that cannot be read.
int doctor(const config::ConfigSource& source);

}  // namespace noid::server
