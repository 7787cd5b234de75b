#pragma once

#include <optional>
#include <string>

namespace noid::agent {

struct Options {
    // Where the host is. Neither: the guest's virtio-serial port "noid.agent" and its vsock.
    std::optional<int> socket;               // a connected stream socket, inherited
    std::optional<std::string> listen_unix;  // a Unix socket is made here
    // With one of these the agent is a process of a machine that is not its own: it renews no
    // identity and powers nothing off.
};

// Serves the host until SIGTERM, or until the inherited socket ends. Gives the process's exit status.
[[nodiscard]] int run(const Options& options);

}  // namespace noid::agent
