#pragma once

#include <sys/types.h>

#include <filesystem>
#include <optional>

namespace noid::launcher {

// Whom a process runs as. It gets no supplementary groups.
struct Credentials {
    uid_t user = 0;
    gid_t group = 0;
};

// What a launched process may see and do. The default takes away nothing but the way to new
// privileges, which no launched process ever has.
struct Confinement {
    std::optional<Credentials> credentials;
    // A namespace to join, for example /run/netns/noid3. Empty: the caller's.
    std::filesystem::path network_namespace;
    // Namespaces of its own. They and the joining of one need CAP_SYS_ADMIN.
    bool own_mounts = false;
    bool own_pids = false;  // it is process 1 in there: signals that it does not handle are ignored
    bool own_ipc = false;
    bool own_host_name = false;
};

}  // namespace noid::launcher
