#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "config/server_config.hpp"

namespace noid::server {

struct UserCommand {
    enum class Verb : std::uint8_t { create, rotate_token, list, show, set_limits, remove };
    Verb verb = Verb::list;
    std::string name;
    // `add-user` and its siblings: a token is printed as "noid_tok_" and the secret, as their callers expect.
    bool original_spelling = false;
    bool json = false;
    // For set_limits: those that are named change; nullopt in one is the server's default again.
    using NewLimit = std::optional<std::optional<std::uint64_t>>;
    NewLimit max_vms{};
    NewLimit max_memory_mib{};
    NewLimit max_vcpus{};
    NewLimit max_disk_mib{};
};

// Manages users through the running server, or in its data directory when none runs. A token is the
// only thing on stdout. Gives the exit code: 0, 1 on failure, 2 for a wrong configuration.
[[nodiscard]] int administer_users(const config::ConfigSource& source, const UserCommand& command);

}  // namespace noid::server
