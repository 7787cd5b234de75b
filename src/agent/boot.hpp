#pragma once

#include "agent/init.hpp"

namespace noid::agent {

// The life of the kernel's first process in Noid's initrd: finds the root file system, mounts it,
// makes it the root, and either stays PID 1 or hands over to the image's own init, with the agent
// running from memory in both cases. docs/guest.md has the kernel's command line.
//
// When there is no root to mount, the reason goes to the console and the machine resets, which
// ends its VMM.
[[noreturn]] void run_as_first_process(const AgentMain& agent_main);

}  // namespace noid::agent
