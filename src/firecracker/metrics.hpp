#pragma once

#include <string>
#include <string_view>

#include "base/error.hpp"
#include "base/fd.hpp"
#include "vmm/devices.hpp"

namespace noid::firecracker {

// The name of the FIFO that takes Firecracker's metrics, for --metrics-path.
inline constexpr const char* metrics_fifo = "metrics.out";

// Adds what one line of metrics says: Firecracker tells how much came since the line before. corrupt when
// there is none in it.
[[nodiscard]] Result<void> add_metrics(std::string_view line, vmm::DeviceNumbers& sums);

// The reading end of that FIFO. Firecracker writes a line each minute and when it is asked to; what nobody
// has read when 64 KiB wait is lost.
class MetricsFifo {
  public:
    MetricsFifo() = default;  // of a Firecracker that has none
    // not_found: that of a Firecracker which was started without.
    [[nodiscard]] static Result<MetricsFifo> open(const Fd& directory);

    [[nodiscard]] bool is_there() const noexcept { return static_cast<bool>(fifo_); }
    // Adds all that waits there. Does not block. Lines that are broken count for nothing: Firecracker breaks
    // them off when the FIFO is full.
    void drain(vmm::DeviceNumbers& sums);

  private:
    explicit MetricsFifo(Fd fifo) noexcept : fifo_{std::move(fifo)} {}

    Fd fifo_;
    std::string begun_;  // a line that has no end yet
};

}  // namespace noid::firecracker
