#pragma once

#include "base/error.hpp"
#include "base/fd.hpp"

namespace noid::launcher {

// Namespaces for one process to come, made while nobody waits for it: of all that a confinement takes, they
// take the kernel longest.
struct ReadyNamespaces {
    Fd mounts;   // with an empty root: see make_empty_root()
    Fd network;  // with nothing in it

    // Blocks for the milliseconds that it takes. Needs CAP_SYS_ADMIN.
    [[nodiscard]] static Result<ReadyNamespaces> make();
};

}  // namespace noid::launcher
