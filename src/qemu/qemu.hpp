#pragma once

#include <boost/asio/thread_pool.hpp>
#include <cstdint>
#include <memory>

#include "base/async.hpp"
#include "base/error.hpp"
#include "vmm/vmm.hpp"
#include "vmm/warden.hpp"

namespace noid::qemu {

struct Options {
    enum class Accelerate : std::uint8_t { automatic, kvm, tcg } accelerate = Accelerate::automatic;
    // Starts the QEMUs; if it confines, each as a user of its own: see qemu/jail.hpp.
    std::shared_ptr<vmm::Warden> warden;
};

// Finds QEMU and tries what this host can do: under `automatic` and `kvm`, a guest of three instructions has
// to come to its end under KVM; /dev/kvm alone proves nothing. not_found: no QEMU; unavailable: KVM was
// demanded and does not work, with the reason. Takes some 150 ms; once per process is enough. `pool` does the
// blocking work of all machines and must outlive them.
[[nodiscard]] Awaitable<Result<std::unique_ptr<vmm::Vmm>>> create(asio::thread_pool& pool, Options options);

}  // namespace noid::qemu
