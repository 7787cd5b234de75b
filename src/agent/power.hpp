#pragma once

#include "agent/boot_options.hpp"
#include "base/error.hpp"

namespace noid::agent {

// Called by the agent: asks whatever is PID 1 to shut the machine down in order. Returns as soon as
// it is asked; the processes, the agent too, are about to be told to end. An image whose init has
// no program for it is shut down by the agent itself (then this does not return).
// Blocks a few milliseconds.
[[nodiscard]] Result<void> request_power_off();

// Ends every other process (SIGTERM, a short deadline, SIGKILL), writes everything to disk, and
// switches the machine off.
[[noreturn]] void power_off_now(PowerOff how);

// Resets the machine at once. The VMM ends, and what stands on the console says why.
[[noreturn]] void reset_now();

}  // namespace noid::agent
