#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "base/error.hpp"
#include "base/fd.hpp"

namespace noid::agent {

// The kernel's announcements of devices. Opened before the drivers are loaded, so that none is
// missed.
class DeviceEvents {
  public:
    [[nodiscard]] static Result<DeviceEvents> open();

    // Opens the block device `path` for reading, as soon as it is there. Blocks at most `limit`;
    // then timed_out. `invalid` if the path is something else.
    [[nodiscard]] Result<Fd> wait_for_block_device(const std::string& path, std::chrono::milliseconds limit);

    // Blocks until `done` says so, asking it now and after each event, at most `limit`; then
    // timed_out.
    [[nodiscard]] Result<void> wait_until(const std::function<bool()>& done, std::chrono::milliseconds limit);

  private:
    explicit DeviceEvents(Fd socket) : socket_{std::move(socket)} {}

    Fd socket_;
};

}  // namespace noid::agent
