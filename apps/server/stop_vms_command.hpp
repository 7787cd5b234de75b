#pragma once

#include "config/server_config.hpp"

namespace noid::server {

// Stops every VM of a data directory that no server has: guests shut down, and whatever process is left then
// is ended. VMs that are suspended stay so; they have no process. Running it again does no harm. Returns the
// exit code.
int stop_vms(const config::ConfigSource& source);

}  // namespace noid::server
