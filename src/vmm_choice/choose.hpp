#pragma once

#include <boost/asio/thread_pool.hpp>
#include <memory>
#include <string>

#include "base/async.hpp"
#include "config/server_config.hpp"
#include "launcher/confinement.hpp"
#include "vmm/vmm.hpp"
#include "vmm/warden.hpp"

namespace noid::vmm_choice {

struct Choice {
    std::unique_ptr<vmm::Vmm> vmm;
    // One line for the operator: "firecracker 1.16.1 with kvm: chosen because both work
    // here; each VM confined, as a user of its own".
    std::string reason;
};

// Who starts VMMs, and how far he confines them, in words for the operator.
struct Starter {
    std::shared_ptr<vmm::Warden> warden;
    std::string confinement;
};

// One with the rights of this process: as root, unless the configuration says otherwise, VMMs run confined,
// and their directories belong to `server`. Tries what the host has.
[[nodiscard]] Result<Starter> local_starter(const config::ServerConfig& config,
                                            const launcher::Credentials& server);
// With this process's user as the server's.
[[nodiscard]] Result<Starter> local_starter(const config::ServerConfig& config);

// The VMM that the configuration asks for, tried for real. `automatic` takes Firecracker where it and KVM
// work, otherwise QEMU, and says why; a VMM asked for by name is never replaced by the other.
// Errors say what was tried and what is missing. `pool` does the VMM's blocking work and outlives it.
[[nodiscard]] Awaitable<Result<Choice>> choose(config::ServerConfig::Vmm wanted, Starter starter,
                                               asio::thread_pool& pool);

}  // namespace noid::vmm_choice
