#pragma once

#include <cstdint>

#include "base/error.hpp"
#include "config/server_config.hpp"

namespace noid::server {

enum class StorageVerb : std::uint8_t { status, mount, unmount };

// `noid-server storage ...`: the pool that VM data may be in. Exit code 0, 1 when it could not be done, 2 for
// a configuration that cannot be read.
int storage(const config::ConfigSource& source, StorageVerb verb);

// Mounts the pool for a server that is about to start, or makes one where that helps; says in the log where
// VM data is. Before root is given up and before the data directory is opened (volume/pool.hpp).
Result<void> prepare_storage(const config::ServerConfig& config);

}  // namespace noid::server
