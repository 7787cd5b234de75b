#pragma once

#include <optional>
#include <string>

#include "config/server_config.hpp"

namespace noid::server {

// `noid-server migrate --from-original`: brings users, disks of checkpoints and golden's disk out of a data
// directory of the original Noid, while no server has ours. Exit code 0, 1 when something was left behind or
// nothing could be done, 2 for a configuration that cannot be read.
int migrate(const config::ConfigSource& source, const std::optional<std::string>& from);

}  // namespace noid::server
