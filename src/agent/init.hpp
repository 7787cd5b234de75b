#pragma once

#include <functional>

#include "agent/boot_options.hpp"
#include "agent/initrd.hpp"
#include "base/fd.hpp"

namespace noid::agent {

// What the agent does when it is up: its event loop. Runs in a child process, with no signal
// blocked, and gives that process' exit status.
using AgentMain = std::function<int()>;

// PID 1 for an image whose own init is not wanted. Makes the rest of what programs expect of a
// running system, starts the agent and starts it again should it end, reaps orphans, and shuts the
// machine down when told to: by SIGUSR2, SIGPWR or SIGRTMIN+4, the ways in which busybox, sysvinit
// and systemd ask for it; SIGTERM, SIGINT and SIGRTMIN+5 mean reboot.
[[noreturn]] void serve_as_init(const AgentMain& agent_main, const Initrd& initrd, PowerOff how);

// Starts the agent, and a process that keeps it running, beside the image's own init: in a session
// and cgroup of their own, spared by the out-of-memory killer. The caller is about to become that
// init by execve. The agent begins when the descriptor that this gives is closed, which execve
// does; a byte written to it calls the agent off.
[[nodiscard]] Result<Fd> start_agent_beside_init(const AgentMain& agent_main, const Initrd& initrd);

}  // namespace noid::agent
