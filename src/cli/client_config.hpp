#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "base/error.hpp"
#include "cli/environment.hpp"
#include "cli/server_url.hpp"

namespace noid::cli {

// What ~/.noid/config.toml says.
struct ClientConfig {
    std::string url;
    std::string token;
};

// Which server to talk to, and as whom.
struct Account {
    ServerUrl server;
    std::string token;
};

// --server and --token.
struct AccountFlags {
    std::optional<std::string> server;
    std::optional<std::string> token;
};

// $HOME/.noid/config.toml
[[nodiscard]] Result<std::filesystem::path> config_path(const Environment& environment);

// Reads `[server] url, token`, or the older flat `server`, `token`. nullopt: no such file.
// Unknown keys are ignored.
[[nodiscard]] Result<std::optional<ClientConfig>> load_config(const std::filesystem::path& path);

// Writes the `[server]` form, readable by the owner only, whole or not at all.
[[nodiscard]] Result<void> save_config(const std::filesystem::path& path, const ClientConfig& config);

// Flags win over NOID_SERVER and NOID_TOKEN, these over the file. The file is not read when it is
// not needed. `invalid`, saying what to run, when the server or the token is nowhere.
[[nodiscard]] Result<Account> resolve_account(const AccountFlags& flags, const Environment& environment);
// The server alone, for commands that need no token.
[[nodiscard]] Result<ServerUrl> resolve_server(const AccountFlags& flags, const Environment& environment);

}  // namespace noid::cli
