#pragma once

#include <span>

#include "base/error.hpp"

namespace noid::launcher {

// Gives up all capabilities but `kept` (CAP_…), for this process and whatever it will start, for good: what
// it has now and what it could gain by executing something. None is added. To be called before there are
// threads; needs CAP_SETPCAP.
[[nodiscard]] Result<void> keep_capabilities(std::span<const int> kept);

}  // namespace noid::launcher
