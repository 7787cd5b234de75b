#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/error.hpp"
#include "config/server_config.hpp"

namespace noid::server {

enum class StorageVerb : std::uint8_t { status, mount, unmount };

// `noid-server storage ...`: the pool that VM data may be in. Exit code 0, 1 when it could not be done, 2 for
// a configuration that cannot be read.
int storage(const config::ConfigSource& source, StorageVerb verb);

// What prepare_storage() found, for the log.
struct Storage {
    std::string pool;                         // empty: nothing to say
    std::optional<std::string> small_disk{};  // below this image, which may grow beyond it
    std::uint64_t free_below = 0;             // bytes
};
// Mounts the pool for a server that is about to start, or makes one where that helps. Before root is given up
// and before the data directory is opened (volume/pool.hpp).
[[nodiscard]] Result<Storage> prepare_storage(const config::ServerConfig& config);
void log_storage(const Storage& storage);

}  // namespace noid::server
