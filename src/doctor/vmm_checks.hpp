#pragma once

#include "config/server_config.hpp"
#include "doctor/check.hpp"

// What `noid-server doctor` finds out about virtual machines by running one. Both block, for up to some
// seconds where a trial guest has to come up.
namespace noid::doctor {

// An instruction under this host's KVM, then a trial guest.
[[nodiscard]] Finding check_kvm(const config::ServerConfig& config);
// The VMM that this configuration leads to, with its version, and why it is that one.
[[nodiscard]] Finding check_vmm(const config::ServerConfig& config);

}  // namespace noid::doctor
