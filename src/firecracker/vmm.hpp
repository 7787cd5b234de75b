#pragma once

#include <filesystem>
#include <memory>
#include <optional>

#include "base/async.hpp"
#include "launcher/cgroup.hpp"
#include "launcher/user_pool.hpp"
#include "vmm/vmm.hpp"

namespace noid::firecracker {

struct Options {
    std::filesystem::path program;
    // Each VM's Firecracker runs confined, as one of these users: see firecracker/jail.hpp. Needs root, and a
    // program that is linked statically. Without: as the server's user, with nothing but Firecracker's own
    // seccomp filters around it.
    std::optional<launcher::UserRange> users;
    // Each of those Firecrackers, with its guest, has a group of its own in here. None: they are not limited.
    std::shared_ptr<const launcher::Cgroups> cgroups;
};

// Tries the program, where it will run confined in such confinement, and KVM. unsupported: too old a
// version; unavailable or forbidden: KVM does not work, with the reason. Processes are started on `pool`,
// which outlives the VMM.
Awaitable<Result<std::unique_ptr<vmm::Vmm>>> open(Options options, asio::thread_pool& pool);

}  // namespace noid::firecracker
