#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/async.hpp"
#include "base/process_identity.hpp"

namespace noid::vm {

// Processes by the directory they work in. A VMM works in its VM's directory and nothing else does,
// so this finds one that was started but not yet recorded when the server was killed. Directories
// are compared as inodes: a process in a mount namespace of its own sees another path.
class WorkingDirectories {
  public:
    // One pass over /proc. Blocking. Processes that we may not look at are not ours.
    [[nodiscard]] static WorkingDirectories scan();
    [[nodiscard]] std::vector<ProcessIdentity> in(const std::filesystem::path& directory) const;

  private:
    using Inode = std::pair<std::uint64_t, std::uint64_t>;  // device, number
    std::map<Inode, std::vector<ProcessIdentity>> processes_;
};

// Ends that very process with SIGKILL and waits until it is gone; at once when it is already.
Awaitable<Result<void>> end_process(ProcessIdentity process);

}  // namespace noid::vm
