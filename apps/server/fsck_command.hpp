#pragma once

#include "config/server_config.hpp"

namespace noid::server {

// `noid-server fsck [--repair]`: examines the data directory while no server runs.
// Exit code 0 when nothing is wrong any more, 1 when something is, 2 for a configuration that cannot be read.
int fsck(const config::ConfigSource& source, bool repair);

}  // namespace noid::server
