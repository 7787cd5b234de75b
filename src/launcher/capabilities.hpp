#pragma once

#include <sys/types.h>

#include <span>

#include "base/error.hpp"
#include "launcher/confinement.hpp"

namespace noid::launcher {

// Gives up all capabilities but `kept` (CAP_…), for this process and whatever it will start, for good: what
// it has now and what it could gain by executing something. None is added. To be called before there are
// threads; needs CAP_SETPCAP.
[[nodiscard]] Result<void> keep_capabilities(std::span<const int> kept);

// Becomes that user for good, and gives up all capabilities but `kept` (CAP_…): what this process has now,
// and without exception what it could gain by executing something. False, with errno, when a step fails. Only
// system calls, and so of the calling thread only: for the time between clone and exec, or before there are
// threads. Needs CAP_SETUID, CAP_SETGID and CAP_SETPCAP.
[[nodiscard]] bool change_identity(const Credentials& credentials, std::span<const gid_t> groups,
                                   std::span<const int> kept = {}) noexcept;

}  // namespace noid::launcher
