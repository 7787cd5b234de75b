#pragma once

#include <boost/asio/thread_pool.hpp>
#include <memory>
#include <string>

#include "base/async.hpp"
#include "config/server_config.hpp"
#include "vmm/vmm.hpp"

namespace noid::vmm_choice {

struct Choice {
    std::unique_ptr<vmm::Vmm> vmm;
    // One line for the operator: "firecracker 1.16.1 with kvm: chosen because both work
    // here; each VM confined, as a user of its own".
    std::string reason;
};

// The VMM that the configuration asks for, tried for real. `automatic` takes Firecracker where it and KVM
// work, otherwise QEMU, and says why; a VMM asked for by name is never replaced by the other.
// Errors say what was tried and what is missing. `pool` does the VMM's blocking work and outlives it.
[[nodiscard]] Awaitable<Result<Choice>> choose(config::ServerConfig::Vmm wanted, asio::thread_pool& pool);

}  // namespace noid::vmm_choice
