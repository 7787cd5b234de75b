#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "base/error.hpp"
#include "base/units.hpp"
#include "volume/volume.hpp"

// The data of VMs in one btrfs image, <data_dir>/pool.btrfs, mounted at <data_dir>/pool: so that clones are
// free also where the file system of the data directory does not share blocks. What is here blocks; changing
// anything needs root (CAP_SYS_ADMIN) and a kernel with loop devices and btrfs.
namespace noid::volume {

struct PoolState {
    enum class Use : std::uint8_t {
        mounted,     // by this call, or it was already
        unneeded,    // the data directory's own file system shares blocks
        unavailable  // `reason` says why; disks are copied
    } use = Use::unneeded;
    std::string reason;  // one line for the log
};

// Mounts the pool, after making it where that helps and nothing lies in the data directory yet; lets it grow
// to `size`. Called once when the server starts, before it gives up root and opens the data directory. An
// error only when there is a pool and it cannot be mounted: the VMs are in it.
[[nodiscard]] Result<PoolState> prepare_pool(const std::filesystem::path& data_dir, MiB size);

// conflict while anything uses it: a server, or a VM. not_found when there is none.
[[nodiscard]] Result<void> unmount_pool(const std::filesystem::path& data_dir);

// Where users/, templates/ and golden/ are: in the pool if there is one, else in the data directory itself.
// unavailable when there is a pool that is not mounted.
[[nodiscard]] Result<std::filesystem::path> storage_root(const std::filesystem::path& data_dir);

struct PoolUsage {
    std::filesystem::path image;
    bool mounted = false;
    MiB size{0};                   // of the image, if it were full
    std::uint64_t allocated = 0;   // bytes that the image takes of the disk below
    std::uint64_t free_below = 0;  // bytes that are left there
};
// not_found when there is no pool.
[[nodiscard]] Result<PoolUsage> pool_usage(const std::filesystem::path& data_dir);

// How files are cloned in `directory`, which is below storage_root(). In a pool, a clone is refused with
// no_space also when the disk below the image is nearly full: the pool itself does not see that, and a
// guest's write would fail instead.
[[nodiscard]] Result<std::unique_ptr<Volume>> probe_storage(const std::filesystem::path& data_dir,
                                                            const std::filesystem::path& directory);

}  // namespace noid::volume
