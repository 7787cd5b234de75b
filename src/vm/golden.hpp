#pragma once

#include <filesystem>
#include <optional>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "base/fd.hpp"
#include "vm/snapshot.hpp"

namespace noid::vm {

// The operator's template: <data_dir>/golden/, and the one before it in golden.previous/. A server that
// runs sees a change with its next create; VMs made from golden before are not touched. Everything blocks.
//
// A change that was interrupted has happened or has not: golden is whole at every instant, and what was left
// is finished or removed by the next open().
class Golden {
  public:
    // Waits for nobody: conflict when another program is changing golden now.
    [[nodiscard]] static Result<Golden> open(const std::filesystem::path& data_dir);

    // What a change of golden has beside it while it lasts, below the directory that golden is in.
    [[nodiscard]] static std::vector<std::filesystem::path> remains(const std::filesystem::path& storage);

    struct Status {
        std::optional<SnapshotConfig> present;
        std::optional<SnapshotConfig> previous;
    };
    // corrupt when golden is there but cannot be read.
    [[nodiscard]] Result<Status> status() const;

    // Makes golden of any user's checkpoint, by its full id; what was golden is kept as the previous one,
    // unless it was made of the same checkpoint. The checkpoint stays. not_found; invalid when it has no
    // memory.
    [[nodiscard]] Result<SnapshotConfig> promote(std::string_view checkpoint_id) const;
    // Exchanges golden and the previous one. not_found when there is no previous one.
    [[nodiscard]] Result<SnapshotConfig> rollback() const;
    // Creates boot from now on; what was golden, if anything, is kept as the previous one.
    [[nodiscard]] Result<void> clear() const;

  private:
    Golden(std::filesystem::path storage, Fd lock) : storage_{std::move(storage)}, lock_{std::move(lock)} {}
    [[nodiscard]] std::filesystem::path present() const { return storage_ / "golden"; }
    [[nodiscard]] std::filesystem::path previous() const { return storage_ / "golden.previous"; }
    [[nodiscard]] std::filesystem::path next() const { return storage_ / "golden.next"; }
    [[nodiscard]] std::filesystem::path intent() const { return storage_ / "golden.intent"; }
    [[nodiscard]] Result<std::filesystem::path> find_checkpoint(std::string_view id) const;
    [[nodiscard]] Result<void> succeed(std::string_view id) const;
    [[nodiscard]] Result<void> note(std::string_view id) const;
    [[nodiscard]] Result<void> conclude() const;
    [[nodiscard]] Result<void> recover() const;
    [[nodiscard]] Result<void> sync() const;

    std::filesystem::path storage_;
    Fd lock_;
};

}  // namespace noid::vm
