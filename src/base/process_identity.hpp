#pragma once

#include <sys/types.h>

#include <compare>
#include <cstdint>

#include "base/error.hpp"
#include "base/fd.hpp"

namespace noid {

// Names one process for as long as the host is up: a pid alone could be reused.
struct ProcessIdentity {
    pid_t pid = 0;
    std::uint64_t start_time = 0;  // field 22 of /proc/PID/stat, in clock ticks since boot
    auto operator<=>(const ProcessIdentity&) const = default;
};

// Who has `pid` now. not_found if nobody has.
[[nodiscard]] Result<ProcessIdentity> identify(pid_t pid);

// A pidfd for exactly that process, close-on-exec. not_found if it is gone, also when another process
// has its pid by now. A zombie is still found.
[[nodiscard]] Result<Fd> open_process(const ProcessIdentity& identity);

}  // namespace noid
