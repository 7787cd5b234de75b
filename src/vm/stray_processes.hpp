#pragma once

#include <boost/asio/thread_pool.hpp>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/async.hpp"
#include "base/process_identity.hpp"
#include "vmm/warden.hpp"

namespace noid::vm {

// Processes by the directory they work in. A VMM works in its VM's directory and nothing else does,
// so this finds one that was started but not yet recorded when the server was killed. Directories
// are compared as inodes: a process in a mount namespace of its own sees another path.
class WorkingDirectories {
  public:
    // Of all VMMs. Blocking. Fails when they cannot be listed: that is not the same as none.
    [[nodiscard]] static Result<WorkingDirectories> scan(vmm::Warden& warden);
    [[nodiscard]] std::vector<ProcessIdentity> in(const std::filesystem::path& directory) const;

  private:
    using Inode = std::pair<std::uint64_t, std::uint64_t>;  // device, number
    std::map<Inode, std::vector<ProcessIdentity>> processes_;
};

// Those that work in one directory. Blocking. Fails as scan().
[[nodiscard]] Result<std::vector<ProcessIdentity>> processes_in(vmm::Warden& warden,
                                                                const std::filesystem::path& directory);

// Ends a VMM that works in that directory with SIGKILL and waits until it is gone; at once when it is
// already. `pool`: for what blocks.
Awaitable<Result<void>> end_process(vmm::Warden& warden, asio::thread_pool& pool, ProcessIdentity process,
                                    std::filesystem::path directory);

// Ends, likewise, every VMM that works for a data directory which no server has (conflict), and gives the
// directories that they worked in, below the data directory.
Awaitable<Result<std::vector<std::string>>> end_all_processes(std::filesystem::path data_dir,
                                                              vmm::Warden& warden, asio::thread_pool& pool);

}  // namespace noid::vm
