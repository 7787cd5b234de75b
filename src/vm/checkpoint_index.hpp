#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "vm/snapshot.hpp"

namespace noid::vm {

// One user's published checkpoints, in memory: an index over checkpoints/<vm>/<id>/, read once at the
// start. The directories are the truth; who changes one changes the index after it. Thread-safe, no I/O
// but in load().
class CheckpointIndex {
  public:
    explicit CheckpointIndex(std::filesystem::path directory) : directory_{std::move(directory)} {}

    // Reads what is there, removes what was left unfinished; a directory that is no checkpoint is reported
    // in the log and left alone. Blocking.
    [[nodiscard]] Result<void> load();

    [[nodiscard]] std::vector<SnapshotConfig> all() const;
    // Of one VM, oldest first.
    [[nodiscard]] std::vector<SnapshotConfig> of(const VmName& vm) const;
    // By id, unique prefix of an id or name; see Checkpoints.
    [[nodiscard]] Result<SnapshotConfig> find(const VmName& vm, std::string_view which) const;
    [[nodiscard]] bool contains(std::string_view id) const;

    // Keeps a name for a checkpoint that is being made or renamed. conflict when it is taken.
    class NameHold;
    [[nodiscard]] Result<NameHold> hold_name(const VmName& vm, const std::string& name);

    // Changes what config.json says of a published checkpoint, there and here. Changes come one after the
    // other, and each sees the one before. not_found when it is gone. Blocking.
    [[nodiscard]] Result<SnapshotConfig> change(const std::string& id,
                                                const std::function<void(SnapshotConfig&)>& change);

    // While this is held no description is being changed, so that a directory can be removed. Blocking.
    [[nodiscard]] std::unique_lock<std::mutex> hold_changes() { return std::unique_lock{changing_}; }

    void put(SnapshotConfig config);
    void erase(const std::string& id);
    // Takes the checkpoint out of the index and removes its files. Blocking.
    [[nodiscard]] Result<void> remove(const SnapshotConfig& config);

    [[nodiscard]] const std::filesystem::path& directory() const noexcept { return directory_; }
    [[nodiscard]] std::filesystem::path place_of(const SnapshotConfig& config) const {
        return directory_ / config.vm_name / config.id;
    }

  private:
    using HeldName = std::pair<std::string, std::string>;  // VM, name

    const std::filesystem::path directory_;
    std::mutex changing_;  // held from reading a description to having written it
    mutable std::mutex mutex_;
    std::map<std::string, SnapshotConfig> by_id_;
    std::vector<HeldName> held_;
};

class CheckpointIndex::NameHold {
  public:
    NameHold(NameHold&& other) noexcept
        : index_{std::exchange(other.index_, nullptr)}, name_{std::move(other.name_)} {}
    NameHold& operator=(NameHold&&) = delete;
    ~NameHold();

  private:
    friend class CheckpointIndex;
    NameHold(CheckpointIndex* index, HeldName name) : index_{index}, name_{std::move(name)} {}
    CheckpointIndex* index_;  // nullptr: nothing is held
    HeldName name_;
};

}  // namespace noid::vm
