#pragma once

#include <boost/asio/posix/stream_descriptor.hpp>

#include "base/async.hpp"
#include "base/error.hpp"
#include "base/units.hpp"

// Whether the host has memory left.
namespace noid::vm {

struct HostMemory {
    MiB total;
    MiB available;  // to be given out without swapping (MemAvailable)
};
// From /proc/meminfo.
[[nodiscard]] Result<HostMemory> host_memory();

// Tells when programs of this host wait for memory (pressure stall information). Used on one strand.
class MemoryPressure {
  public:
    // Fails where the kernel does not tell, or (before 6.5) tells only root.
    [[nodiscard]] static Result<MemoryPressure> watch(asio::any_io_executor strand);
    // Waits until somebody had to wait for a fifth of a second within two; at most once in two seconds.
    Awaitable<Result<void>> felt();

  private:
    explicit MemoryPressure(asio::posix::stream_descriptor trigger) : trigger_{std::move(trigger)} {}
    asio::posix::stream_descriptor trigger_;
};

}  // namespace noid::vm
