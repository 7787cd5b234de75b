#pragma once

#include "proto/messages.hpp"

namespace noid::agent {

// What /proc and the root file system say now. What cannot be read stays 0.
[[nodiscard]] proto::GuestStats read_guest_stats();

// What this guest is; `generation` is the caller's.
[[nodiscard]] proto::AgentInfo read_agent_info();

}  // namespace noid::agent
