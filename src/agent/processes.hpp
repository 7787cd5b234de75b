#pragma once

#include <sys/types.h>

#include <cstdint>

namespace noid::agent {

// SIGKILL to every process of the session (setsid(2)) that `leader` began, whatever process group it
// moved to: a shell gives each job a group of its own. For kernels without cgroup.kill.
void kill_process_session(pid_t leader) noexcept;

// How many processes /proc shows.
[[nodiscard]] std::uint32_t count_processes() noexcept;

}  // namespace noid::agent
