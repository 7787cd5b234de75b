#pragma once

#include <string>

#include "config/server_config.hpp"

namespace noid::server {

struct GoldenCommand {
    enum class Verb : std::uint8_t { status, promote, rollback, clear } verb = Verb::status;
    std::string checkpoint;  // full id, for promote
};

// `noid-server golden ...`: the snapshot that creates of its shape wake from. Works while the server runs.
// Exit code 0, 1 when it could not be done, 2 for a configuration that cannot be read.
int golden(const config::ConfigSource& source, const GoldenCommand& command);

}  // namespace noid::server
