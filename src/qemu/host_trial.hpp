#pragma once

#include <boost/asio/thread_pool.hpp>
#include <cstdint>
#include <string>

#include "base/async.hpp"
#include "base/error.hpp"
#include "vmm/warden.hpp"

// What a host and its QEMU really can do, found out by trying.
namespace noid::qemu {

// "7.2.22", as the program prints it.
[[nodiscard]] Awaitable<Result<std::string>> version_of(asio::thread_pool& pool, vmm::Warden& warden);

// Success when a guest ran to its end under KVM in this QEMU. unavailable: it did not, and why; not_found:
// there is no QEMU.
[[nodiscard]] Awaitable<Result<void>> try_kvm(asio::thread_pool& pool, vmm::Warden& warden);

// The rate of this CPU's time stamp counter, in kHz, measured over 50 ms. (cpu MHz in /proc/cpuinfo is the
// clock's rate, which on many hosts is another one.)
[[nodiscard]] Awaitable<std::uint64_t> measure_tsc_khz();

// Equal for two hosts on which a guest sees the same CPU. `flags` is the host's own under KVM, empty under
// TCG, whose guest sees the CPU that QEMU's version defines.
[[nodiscard]] std::string fingerprint(const std::string& version, const std::string& accelerator,
                                      const std::string& host_cpu);
// Vendor, family, model, stepping and flags of the first CPU in the text of /proc/cpuinfo.
[[nodiscard]] std::string cpu_identity(const std::string& cpuinfo);

}  // namespace noid::qemu
