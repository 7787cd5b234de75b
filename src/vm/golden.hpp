#pragma once

#include <filesystem>
#include <optional>
#include <string_view>

#include "base/error.hpp"
#include "base/fd.hpp"
#include "vm/snapshot.hpp"

namespace noid::vm {

// The operator's template: <data_dir>/golden/, and the one before it in golden.previous/. A server that
// runs sees a change with its next create; VMs made from golden before are not touched. Everything blocks.
class Golden {
  public:
    // Waits for nobody: conflict when another program is changing golden now.
    [[nodiscard]] static Result<Golden> open(const std::filesystem::path& data_dir);

    struct Status {
        std::optional<SnapshotConfig> present;
        std::optional<SnapshotConfig> previous;
    };
    // corrupt when golden is there but cannot be read.
    [[nodiscard]] Result<Status> status() const;

    // Makes golden of any user's checkpoint, by its full id; what was golden is kept as the previous one.
    // The checkpoint stays. not_found; invalid when it has no memory.
    [[nodiscard]] Result<SnapshotConfig> promote(std::string_view checkpoint_id) const;
    // Exchanges golden and the previous one. not_found when there is no previous one.
    [[nodiscard]] Result<SnapshotConfig> rollback() const;
    // Creates boot from now on; what was golden is kept as the previous one.
    [[nodiscard]] Result<void> clear() const;

  private:
    Golden(std::filesystem::path storage, Fd lock) : storage_{std::move(storage)}, lock_{std::move(lock)} {}
    [[nodiscard]] std::filesystem::path present() const { return storage_ / "golden"; }
    [[nodiscard]] std::filesystem::path previous() const { return storage_ / "golden.previous"; }
    [[nodiscard]] Result<std::filesystem::path> find_checkpoint(std::string_view id) const;
    [[nodiscard]] Result<void> succeed(const std::filesystem::path& next) const;

    std::filesystem::path storage_;
    Fd lock_;
};

}  // namespace noid::vm
