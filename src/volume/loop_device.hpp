#pragma once

#include <filesystem>
#include <optional>

#include "base/error.hpp"
#include "base/fd.hpp"

// Files as block devices. Everything here blocks and needs the right to use /dev/loop-control.
namespace noid::volume {

struct LoopDevice {
    Fd fd;                       // whoever mounts the device may close it afterwards
    std::filesystem::path path;  // "/dev/loop3"
};

// Makes a block device of the file, which was opened for writing. The kernel takes it apart when nothing has
// it open or mounted any more. Past the host's page cache where the file system below lets it.
[[nodiscard]] Result<LoopDevice> attach_loop_device(const Fd& file);
// The device that was made of this very file, by whomever.
[[nodiscard]] Result<std::optional<LoopDevice>> find_loop_device(const Fd& file);
// Lets the device have the size that its file has now.
[[nodiscard]] Result<void> update_size(const LoopDevice& device);

}  // namespace noid::volume
