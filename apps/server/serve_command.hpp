#pragma once

#include "config/server_config.hpp"

namespace noid::server {

// `noid-server serve`: opens the data directory, takes running VMs over, answers the API until
// SIGTERM or SIGINT; VMs run on after it. `ready_fd` (or -1) gets the line "ready" once the API
// listens. Exit code 0, 1 for a failure at run time, 2 for a configuration that cannot be read.
int serve(const config::ConfigSource& source, int ready_fd);

}  // namespace noid::server
