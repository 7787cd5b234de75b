#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "proto/messages.hpp"

namespace noid::agent {

// Makes this guest a machine of its own, after a boot or in a clone: fresh entropy and a re-seeded
// generator first, then clock, network, hostname, machine id, boot id, and SSH host keys; what is
// empty in `identity` is left as it is. No command may be admitted before this has succeeded.
//
// The error names the step that failed, and the steps after it were not tried; calling again with
// the same identity is safe. No program is run but ssh-keygen, when keys are to be renewed; then
// this can take seconds. Blocks; any thread, one at a time.
[[nodiscard]] Result<void> renew_identity(const proto::Identity& identity);

// Keeps the environment that the host gave this machine, "K=V", where an agent that is started
// again finds it. It does not survive a boot; the host gives it again.
[[nodiscard]] Result<void> save_machine_environment(const std::vector<std::string>& environment);
// Empty when none was saved.
[[nodiscard]] std::vector<std::string> load_machine_environment();

// The contents of /etc/hosts with 127.0.1.1 naming `hostname`: in the place of the line that did so
// before, else at the end. All other lines stay as they are.
[[nodiscard]] std::string hosts_with(std::string_view hosts, std::string_view hostname);

// 1 to 64 letters, digits, '.', '-' and '_', not beginning or ending with '.' or '-'.
[[nodiscard]] bool is_hostname(std::string_view text) noexcept;
// 32 lower-case hexadecimal digits, not all zero.
[[nodiscard]] bool is_machine_id(std::string_view text) noexcept;

}  // namespace noid::agent
