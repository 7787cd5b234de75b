#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "store/user_database.hpp"

// The data directory of the original Noid (0.2): a database `noid.db` and, below `storage/users/<id>/`, VMs
// and checkpoints by name. It is only read here.
namespace noid::migrate {

struct OriginalCheckpoint {
    std::string id;
    std::string user_id;
    std::string vm_name;
    std::string label;
    std::string created_at;  // UTC "YYYY-MM-DD HH:MM:SS"
    std::uint32_t cpus = 1;
    std::uint64_t mem_mib = 2048;
    std::filesystem::path directory;  // where its files should be
};

struct OriginalVm {
    std::string user_id;
    std::string name;
};

struct OriginalGolden {
    std::filesystem::path disk;
    std::uint32_t cpus = 1;
    std::uint64_t mem_mib = 2048;
};

struct Original {
    std::vector<store::UserRow> users;            // by creation
    std::vector<OriginalCheckpoint> checkpoints;  // by creation
    std::vector<OriginalVm> vms;
    std::optional<OriginalGolden> golden;
    // Its storage is a file system in `storage.img` that is not mounted now: no disks can be seen.
    bool storage_is_away = false;
};

// not_found when there is no database, `invalid` when it is not the original's (it may be one of this
// version, which needs no taking over), and whatever reading it fails with. Blocking.
[[nodiscard]] Result<Original> read_original(const std::filesystem::path& directory);

}  // namespace noid::migrate
