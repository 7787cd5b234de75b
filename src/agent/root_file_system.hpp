#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/error.hpp"

namespace noid::agent {

// What a disk holds.
struct FileSystemOnDisk {
    std::string type;              // as mount(2) takes it: "ext4" (also for ext2 and ext3), "xfs", "btrfs"
    std::uint64_t blocks = 0;      // ext4: its size; others: 0
    std::uint32_t block_size = 0;  // bytes
};

// Reads `size` bytes of a disk at `offset`; false if they are not there.
using ReadDisk = std::function<bool(std::uint64_t offset, std::span<std::byte> out)>;

// Finds out by the superblock; nothing for a disk that holds none of the three.
[[nodiscard]] std::optional<FileSystemOnDisk> identify_file_system(const ReadDisk& read);

// Mounts the file system on the block device `path`, open as `device`, at `target`: writable,
// without access times (each read would make the machine's checkpoints larger), and with discard
// where the disk can, so that the image's file shrinks when files are deleted.
// Errors: unsupported, saying what the disk holds or which driver is missing; internal.
//
// An ext4 file system that is smaller than its disk grows to the disk's size, while mounted and
// without a program. That it could not is logged and no error.
[[nodiscard]] Result<void> mount_root(int device, const std::string& path, const char* target);

}  // namespace noid::agent
