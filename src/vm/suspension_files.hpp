#pragma once

#include <filesystem>

#include "base/error.hpp"
#include "vm/snapshot.hpp"

// The files by which a VM in its own directory becomes a suspended one: they are written under names of
// their own while the VM still has its old memory.snap, and take the place of that in one go. Blocking.
namespace noid::vm {

inline constexpr const char* saving_memory = "saving.memory";
inline constexpr const char* saving_state = "saving.state";
inline constexpr const char* saving_config = "saving.config";

// The journal's word for: everything is saved, the suspension can only be finished.
inline constexpr const char* suspension_saved = "saved";

// Takes saved memory and state to the snapshot that they are for.
[[nodiscard]] Result<void> move_saved_memory(const std::filesystem::path& directory,
                                             const std::filesystem::path& snapshot);
// Memory and state are saved: adds the configuration and brings all of it to the disk.
[[nodiscard]] Result<void> complete_save(const std::filesystem::path& directory,
                                         const SnapshotConfig& config);
// Gives the saved files their names; what has its name already stays. Can be repeated.
[[nodiscard]] Result<void> finish_suspension(const std::filesystem::path& directory);
// Takes space aside in the directory of a VM that is going to be put back to a checkpoint, and gives it
// back: once its old machine has ended, waking must not fail for want of a few blocks. no_space.
[[nodiscard]] Result<void> reserve_for_wake(const std::filesystem::path& directory);
void release_reserve(const std::filesystem::path& directory) noexcept;
// Removes what a save left that did not come to its end.
void remove_unfinished_save(const std::filesystem::path& directory) noexcept;
// Removes the saved memory: the VM will boot.
[[nodiscard]] Result<void> forget_memory(const std::filesystem::path& directory);

}  // namespace noid::vm
