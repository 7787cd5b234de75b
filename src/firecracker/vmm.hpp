#pragma once

#include <filesystem>
#include <memory>

#include "base/async.hpp"
#include "vmm/vmm.hpp"

namespace noid::firecracker {

// Tries the program and KVM for real. unsupported: too old a version; unavailable or forbidden: KVM does not
// work, with the reason. Processes are started on `pool`, which outlives the VMM.
Awaitable<Result<std::unique_ptr<vmm::Vmm>>> open(std::filesystem::path program, asio::thread_pool& pool);

}  // namespace noid::firecracker
