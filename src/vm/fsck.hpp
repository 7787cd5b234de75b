#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "vmm/warden.hpp"

namespace noid::vm {

struct Finding {
    std::string place;  // below the data directory
    std::string what;   // what is wrong, in words
    std::string done;   // what was done about it; empty: nothing, or nothing can be
};

enum class FsckMode : std::uint8_t { look, repair };

// Examines everything in a data directory: rows, VMs' directories, checkpoints with their hashes,
// templates, golden, and what interruptions left. A checkpoint that has no hashes yet gets them when it is
// repaired. Repairing removes remains and templates that are damaged, and moves damaged checkpoints to
// lost+found/; nothing that a VM or a sound checkpoint needs is touched. VMs may run meanwhile.
// `warden` knows which VMs run. conflict while a server has the directory. Blocking, as long as reading all
// checkpoints takes.
[[nodiscard]] Result<std::vector<Finding>> fsck(const std::filesystem::path& data_dir, vmm::Warden& warden,
                                                FsckMode mode);

}  // namespace noid::vm
