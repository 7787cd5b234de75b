#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "wire/json.hpp"

namespace noid::wire {

inline constexpr std::uint32_t api_version = 1;

// The one shape of every error answer. Existing clients read `error` only.
struct ErrorBody {
    std::string error;       // a sentence for a person
    std::string code;        // stable: the name of an Errc ("not_found")
    std::string request_id;  // as in X-Request-Id; empty over WebSocket

    [[nodiscard]] static Result<ErrorBody> from_json(const json::value& value);
};
[[nodiscard]] json::object to_json(const ErrorBody& body);

// GET /version
struct Version {
    std::string version;
    std::uint32_t api = api_version;  // "api_version"

    [[nodiscard]] static Result<Version> from_json(const json::value& value);
};
[[nodiscard]] json::object to_json(const Version& version);

// GET /v1/whoami
struct WhoAmI {
    std::string user_id;
    std::string name;

    [[nodiscard]] static Result<WhoAmI> from_json(const json::value& value);
};
[[nodiscard]] json::object to_json(const WhoAmI& who);

// GET /v1/capabilities: every number flat, as the original has them, and grouped, as its TypeScript
// SDK declares them.
struct Capabilities {
    std::uint64_t exec_timeout_secs = 0;
    std::uint64_t console_timeout_secs = 0;
    std::uint32_t max_vms = 0;
    std::uint64_t max_mem_mib = 0;
    std::uint32_t max_cpus = 0;
    std::uint64_t max_disk_mib = 0;
    std::string vmm;                    // "qemu", "firecracker"
    std::vector<std::string> features;  // "sessions", "files", "ports", ...: what a client may ask for

    [[nodiscard]] static Result<Capabilities> from_json(const json::value& value);
    [[nodiscard]] bool has(std::string_view feature) const noexcept;
};
[[nodiscard]] json::object to_json(const Capabilities& capabilities);

// Administration, over the server's local socket.
struct User {
    std::string id;
    std::string name;
    std::string created_at;  // UTC "YYYY-MM-DD HH:MM:SS"

    [[nodiscard]] static Result<User> from_json(const json::value& value);
};
[[nodiscard]] json::object to_json(const User& user);

// A user with a token made just now; shown once. `token` is the bare 64 hexadecimal characters.
struct UserWithToken {
    User user;
    std::string token;

    [[nodiscard]] static Result<UserWithToken> from_json(const json::value& value);
};
[[nodiscard]] json::object to_json(const UserWithToken& user);

// POST /admin/v1/users
struct CreateUser {
    std::string name;

    [[nodiscard]] static Result<CreateUser> from_json(const json::value& value);
};
[[nodiscard]] json::object to_json(const CreateUser& request);

}  // namespace noid::wire
