#pragma once

#include <boost/asio/io_context.hpp>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/async.hpp"
#include "base/error.hpp"
#include "config/server_config.hpp"
#include "vm/port_registry.hpp"
#include "vm/quota.hpp"
#include "vm/tenant.hpp"
#include "vmm/vmm.hpp"

namespace noid::vm {

struct User {
    std::string id;  // UUID
    std::string name;
    std::string created_at;  // UTC "YYYY-MM-DD HH:MM:SS"
};

struct VmNetworkNumbers {
    std::string user;
    std::string vm;
    NetworkNumbers numbers;
};

// VMs that are kept ready ahead of creates, and what became of them since the server started.
struct WarmNumbers {
    std::size_t ready = 0;
    MiB memory;                // of those, as it is counted against [pool] memory
    std::uint64_t given = 0;   // to creates
    std::uint64_t missed = 0;  // creates that found none
    std::uint64_t ended = 0;   // without having been used
};

struct EngineNumbers {  // for /metrics
    std::size_t vms_total = 0;
    std::size_t vms_running = 0;
    std::uint64_t memory_bytes = 0;
    double cpu_seconds = 0;
    std::uint64_t disk_bytes = 0;
    WarmNumbers warm;
    std::optional<NetworkNumbers> network;   // of the VMs that have one now, together
    std::vector<VmNetworkNumbers> networks;  // of each, by user and name
};

// Everything below the API: users, tenants, VMs. One per server process and data directory; holds
// the data directory's lock while it lives. Thread-safe.
class Engine {
  public:
    Engine() = default;
    Engine(const Engine&) = delete;
    Engine& operator=(const Engine&) = delete;
    virtual ~Engine() = default;

    // The tenant of a valid token (either spelling), or unauthenticated ("invalid token").
    // Constant time in the token. No I/O.
    [[nodiscard]] virtual Result<std::shared_ptr<Tenant>> authenticate(std::string_view token) const = 0;

    // nullptr: there is no such user. For what the API lets in without a token; no I/O.
    [[nodiscard]] virtual std::shared_ptr<Tenant> tenant_named(const std::string& user_name) const = 0;

    // User administration, effective at once. The secret is 64 hexadecimal characters, shown once.
    struct NewToken {
        User user;
        std::string secret;
    };
    virtual Awaitable<Result<NewToken>> create_user(std::string name) = 0;
    virtual Awaitable<Result<NewToken>> rotate_token(std::string name) = 0;
    virtual Awaitable<Result<std::vector<User>>> users() = 0;
    // Stops and removes everything the user has. The error says what is left and why.
    virtual Awaitable<Result<User>> delete_user(std::string name) = 0;

    // What a user may have (as was set for this user, and as it holds) and has now. not_found.
    struct UserLimits {
        store::UserLimits own;
        Allowance allowed;
        Allowance used;
    };
    virtual Awaitable<Result<UserLimits>> limits(std::string name) = 0;
    // Holds at once; what runs goes on. invalid for a negative number.
    virtual Awaitable<Result<UserLimits>> set_limits(std::string name, store::UserLimits limits) = 0;

    // Measured now, from /proc and the file system.
    virtual Awaitable<EngineNumbers> numbers() const = 0;
    // Which ports of the host are to be published, now and as it changes.
    [[nodiscard]] virtual PortRegistry& ports() = 0;
    [[nodiscard]] virtual const vmm::Description& vmm() const = 0;

    // Lets go of every VM without stopping it (they run on and are taken over by the next server).
    virtual Awaitable<void> close() = 0;
};

}  // namespace noid::vm
