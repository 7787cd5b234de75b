#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "base/fd.hpp"
#include "vm/types.hpp"
#include "vmm/warden.hpp"

namespace noid::vm {

// Where one user's things are: <data_dir>/users/<id>.
class TenantPaths {
  public:
    explicit TenantPaths(std::filesystem::path directory) : directory_{std::move(directory)} {}

    [[nodiscard]] const std::filesystem::path& directory() const noexcept { return directory_; }
    [[nodiscard]] std::filesystem::path database() const { return directory_ / "noid.db"; }
    [[nodiscard]] std::filesystem::path vms() const { return directory_ / "vms"; }
    [[nodiscard]] std::filesystem::path vm(const VmName& name) const { return vms() / name.text(); }
    // A name in vms() that no VM can have; what carries it is reclaimed at the next start.
    [[nodiscard]] std::filesystem::path trash(std::string_view unique) const;
    // Where a directory is made ready that will take the place of that VM's.
    [[nodiscard]] std::filesystem::path successor(std::string_view vm_id) const;
    [[nodiscard]] std::filesystem::path checkpoints() const { return directory_ / "checkpoints"; }
    [[nodiscard]] std::filesystem::path logs() const { return directory_ / "logs"; }
    [[nodiscard]] std::filesystem::path console_log(const VmName& name) const;

    // Makes what is missing, mode 0700. Blocking.
    [[nodiscard]] Result<void> create() const;

  private:
    std::filesystem::path directory_;
};

// The data directory, held for this process alone as long as this object lives (by locks on the file `lock`,
// which the kernel gives back at the moment the process ends, however it does).
class DataDirectory {
  public:
    // Makes the directory (0700, unless root shares it with this user) and its fixed parts. conflict when
    // another server has it; the message names its pid. unavailable when VMs are in a pool that is not
    // mounted. Blocking.
    [[nodiscard]] static Result<DataDirectory> open(std::filesystem::path path);

    [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
    // Where the data of VMs are: the pool in it (volume/pool.hpp), or itself.
    [[nodiscard]] const std::filesystem::path& storage() const noexcept { return storage_; }
    [[nodiscard]] std::filesystem::path database() const { return path_ / "noid.db"; }
    [[nodiscard]] std::filesystem::path images() const { return path_ / "images"; }
    [[nodiscard]] std::filesystem::path golden() const { return storage_ / "golden"; }
    [[nodiscard]] std::filesystem::path templates() const { return storage_ / "templates"; }
    [[nodiscard]] std::filesystem::path warm() const { return storage_ / "warm"; }  // of WarmPool
    [[nodiscard]] std::filesystem::path users() const { return storage_ / "users"; }
    [[nodiscard]] TenantPaths tenant(std::string_view user_id) const {
        return TenantPaths{users() / user_id};
    }

  private:
    DataDirectory(std::filesystem::path path, std::filesystem::path storage, Fd lock)
        : path_{std::move(path)}, storage_{std::move(storage)}, lock_{std::move(lock)} {}

    std::filesystem::path path_;
    std::filesystem::path storage_;
    Fd lock_;
};

// Lets `successor` become `place`; what is there goes by way of `trash`.
// Without a successor it has happened already. Blocking.
[[nodiscard]] Result<void> take_place(const std::filesystem::path& successor,
                                      const std::filesystem::path& place, const std::filesystem::path& trash,
                                      vmm::Warden& warden);
// Removes a file or a whole tree; what is not there is removed already. Blocking.
[[nodiscard]] Result<void> remove_tree(const std::filesystem::path& path);
// Removes a tree in which directories of VMs are, also what their VMMs have kept us out of: a confined one is
// another user, and one that its guest has taken over makes directories that only it may enter. No VMM works
// there any more. Blocking.
[[nodiscard]] Result<void> remove_tree(const std::filesystem::path& path, vmm::Warden& warden);
// The names in a directory, "." and ".." left out. Blocking.
[[nodiscard]] Result<std::vector<std::string>> names_in(const std::filesystem::path& directory);

}  // namespace noid::vm
