#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "base/units.hpp"
#include "vm/checkpoint.hpp"
#include "vm/types.hpp"
#include "vmm/vmm.hpp"
#include "volume/volume.hpp"

// A snapshot is a directory with four files, whole or not there: a saved instant of a VM. Checkpoints,
// golden, templates and suspended VMs are the same thing in different places. Everything here blocks.
namespace noid::vm {

inline constexpr const char* disk_file = "rootfs.ext4";
inline constexpr const char* memory_file = "memory.snap";
inline constexpr const char* state_file = "vmstate.snap";
inline constexpr const char* config_file = "config.json";

// What a snapshot's config.json says.
struct SnapshotConfig {
    std::string id;       // 16 lower-case hexadecimal digits
    std::string vm_id;    // of the VM that was saved
    std::string vm_name;  // and its name
    std::string name;
    std::string label;
    std::string parent;
    bool automatic = false;
    bool has_memory = true;
    bool has_network = false;  // the machine has a network device
    std::uint32_t cpus = 1;
    MiB memory;
    MiB disk;
    std::string image;
    NetworkSettings network;
    Resources resources;
    vmm::Layout layout = 0;  // of the machine; 0 is what stands in those that do not say
    std::vector<std::string> env;
    std::string vmm;  // "qemu"
    std::string vmm_version;
    std::string accelerator;
    std::string cpu_fingerprint;
    std::string agent_version;
    std::int64_t created_us = 0;  // microseconds since the epoch
    std::uint64_t memory_bytes_written = 0;
    std::chrono::microseconds paused{};
    std::map<std::string, std::string> sha256;   // by file name, of those that were hashed
    std::map<std::string, std::string> sources;  // of a template: state of the files that it booted from

    [[nodiscard]] std::string to_json() const;
    // corrupt when the text is no such description.
    [[nodiscard]] static Result<SnapshotConfig> from_json(std::string_view text);

    // Those that the directory holds besides config.json.
    [[nodiscard]] std::vector<const char*> files() const;
    [[nodiscard]] bool has_all_hashes() const;

    void set_vmm(const vmm::Description& description);
    // Why a machine of `vmm` cannot wake from it, in words; empty when it can.
    [[nodiscard]] std::string obstacle(const vmm::Description& description) const;
    // `obstacle` and `disk_used` of the view are the caller's to fill in.
    [[nodiscard]] CheckpointView view() const;
};

// A snapshot that a VM is made from.
struct Origin {
    std::filesystem::path place;
    SnapshotConfig config;
    std::string kind;  // as VmView::start_kind
};

// not_found without config.json; corrupt when it cannot be read or a file that it speaks of is missing.
[[nodiscard]] Result<SnapshotConfig> read_snapshot(const std::filesystem::path& directory);
// Replaces config.json, whole or not at all.
[[nodiscard]] Result<void> write_snapshot_config(const std::filesystem::path& directory,
                                                 const SnapshotConfig& config);

// As Volume::clone, by path.
[[nodiscard]] Result<void> clone_file(const volume::Volume& volume, const std::filesystem::path& from,
                                      const std::filesystem::path& to);
// Makes the files of a machine that wakes from the snapshot `from` in the directory `to`: the disk cloned,
// memory and device state as hard links (clones where links are impossible), config.json. With an `id`:
// not_found when another snapshot is there now.
[[nodiscard]] Result<void> unfold_snapshot(const volume::Volume& volume, const std::filesystem::path& from,
                                           const std::filesystem::path& to, std::string_view id = {});

// Bytes that removing the directory's files would free.
[[nodiscard]] Result<std::uint64_t> exclusive_bytes(const std::filesystem::path& directory);

// A snapshot that is being made: a directory beside the final one that nobody looks at, removed unless it
// is published.
class SnapshotDraft {
  public:
    // Where a draft lies: `<parent>/.new-<id>`.
    [[nodiscard]] static std::filesystem::path place(const std::filesystem::path& parent,
                                                     std::string_view id);
    // Makes it. conflict when there is one already.
    [[nodiscard]] static Result<SnapshotDraft> create(const std::filesystem::path& parent,
                                                      std::string_view id);
    SnapshotDraft(SnapshotDraft&& other) noexcept;
    SnapshotDraft& operator=(SnapshotDraft&&) = delete;
    ~SnapshotDraft();

    [[nodiscard]] const std::filesystem::path& directory() const noexcept { return directory_; }
    // Writes config.json, brings every file to the disk, and gives the directory its name.
    [[nodiscard]] Result<void> publish(const SnapshotConfig& config, const std::filesystem::path& target);

  private:
    explicit SnapshotDraft(std::filesystem::path directory) : directory_{std::move(directory)} {}
    std::filesystem::path directory_;  // empty: moved away or published
};

}  // namespace noid::vm
