#pragma once

#include <string>

#include "base/error.hpp"

namespace noid::agent {

// Makes a new host key of each kind that `directory` (/etc/ssh) has one of, by ssh-keygen, and has
// a running sshd take them. All kinds are made before the first is replaced. Nothing happens in an
// image without host keys; one that has keys but no ssh-keygen is `unsupported`.
// Blocks until the keys are made: an RSA key can take seconds.
[[nodiscard]] Result<void> renew_ssh_host_keys(const std::string& directory);

}  // namespace noid::agent
