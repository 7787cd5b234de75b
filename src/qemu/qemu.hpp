#pragma once

#include <boost/asio/thread_pool.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/async.hpp"
#include "base/error.hpp"
#include "launcher/cgroup.hpp"
#include "launcher/user_pool.hpp"
#include "vmm/vmm.hpp"

namespace noid::qemu {

struct Options {
    std::string program = "qemu-system-x86_64";  // a name to look for, or a path
    enum class Accelerate : std::uint8_t { automatic, kvm, tcg } accelerate = Accelerate::automatic;
    // Each VM's QEMU runs confined, as one of these users: see qemu/jail.hpp. Needs root.
    std::optional<launcher::UserRange> users;
    // Each of those QEMUs, with its guest, has a group of its own in here. None: they are not limited.
    std::shared_ptr<const launcher::Cgroups> cgroups;
};

// Finds QEMU and tries what this host can do: under `automatic` and `kvm`, a guest of three instructions has
// to come to its end under KVM; /dev/kvm alone proves nothing. not_found: no QEMU; unavailable: KVM was
// demanded and does not work, with the reason. Takes some 150 ms; once per process is enough. `pool` does the
// blocking work of all machines and must outlive them.
[[nodiscard]] Awaitable<Result<std::unique_ptr<vmm::Vmm>>> create(asio::thread_pool& pool, Options options);

}  // namespace noid::qemu
