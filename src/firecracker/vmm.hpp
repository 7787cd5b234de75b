#pragma once

#include <memory>

#include "base/async.hpp"
#include "vmm/vmm.hpp"
#include "vmm/warden.hpp"

namespace noid::firecracker {

// Tries the program, where it will run confined in such confinement, and KVM. unsupported: too old a
// version; unavailable or forbidden: KVM does not work, with the reason. `warden` starts the Firecrackers; if
// it confines, each as a user of its own (see firecracker/jail.hpp), which takes a program that is linked
// statically. It is asked on `pool`, which outlives the VMM.
Awaitable<Result<std::unique_ptr<vmm::Vmm>>> open(std::shared_ptr<vmm::Warden> warden,
                                                  asio::thread_pool& pool);

}  // namespace noid::firecracker
