#include "agent/root_file_system.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "agent/kernel_log.hpp"
#include "agent/text_file.hpp"
#include "base/fd.hpp"

namespace noid::agent {

namespace {

// fs/ext4/ext4.h; the kernel does not export it. The argument is the new number of blocks.
constexpr unsigned long ext4_resize = _IOW('f', 16, __u64);

constexpr std::uint64_t ext_superblock = 1024;
constexpr std::uint64_t btrfs_superblock = 64 * 1024;

std::uint32_t little_endian(std::span<const std::byte> bytes, std::size_t at, std::size_t size) {
    std::uint32_t value = 0;
    for (std::size_t i = size; i-- > 0;) value = value << 8 | std::to_integer<std::uint32_t>(bytes[at + i]);
    return value;
}

std::optional<FileSystemOnDisk> identify_ext(std::span<const std::byte> superblock) {
    // Offsets are in the kernel's documentation, filesystems/ext4/super.rst.
    if (little_endian(superblock, 0x38, 2) != 0xEF53) return std::nullopt;
    const std::uint32_t log_block_size = little_endian(superblock, 0x18, 4);
    if (log_block_size > 6) return std::nullopt;  // 64 KiB is the largest
    FileSystemOnDisk found{.type = "ext4", .blocks = little_endian(superblock, 0x4, 4), .block_size = 0};
    constexpr std::uint32_t incompat_64bit = 0x80;
    if ((little_endian(superblock, 0x60, 4) & incompat_64bit) != 0) {
        found.blocks |= static_cast<std::uint64_t>(little_endian(superblock, 0x150, 4)) << 32;
    }
    found.block_size = 1024U << log_block_size;
    return found;
}

bool begins_with(std::span<const std::byte> bytes, std::size_t at, std::string_view text) {
    return std::memcmp(bytes.data() + at, text.data(), text.size()) == 0;
}

bool kernel_has_file_system(const std::string& type) {
    return read_text_file("/proc/filesystems", 16384).value_or("").find("\t" + type + "\n") !=
           std::string::npos;
}

bool can_discard(int device) {
    struct stat status {};
    if (::fstat(device, &status) != 0) return false;
    const auto limit = read_text_file(fmt::format("/sys/dev/block/{}:{}/queue/discard_max_bytes",
                                                  major(status.st_rdev), minor(status.st_rdev)),
                                      4096);
    return limit && *limit != "0\n";
}

std::string mount_options(const FileSystemOnDisk& found, int device) {
    std::string options;
    if (found.type == "ext4") options = "errors=remount-ro";
    if (can_discard(device)) options += options.empty() ? "discard" : ",discard";
    return options;
}

void grow_to_disk(const FileSystemOnDisk& found, int device, const char* mounted_at) {
    std::uint64_t disk_bytes = 0;
    if (::ioctl(device, BLKGETSIZE64, &disk_bytes) != 0) return;
    const std::uint64_t wanted = disk_bytes / found.block_size;
    if (wanted <= found.blocks) return;
    const Fd root{::open(mounted_at, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (root && ::ioctl(root.get(), ext4_resize, &wanted) == 0) return;
    kernel_log(LogLevel::error, fmt::format("the root file system could not grow to its disk's {} MiB: {}",
                                            disk_bytes >> 20, std::generic_category().message(errno)));
}

}  // namespace

std::optional<FileSystemOnDisk> identify_file_system(const ReadDisk& read) {
    std::array<std::byte, 1024> block{};
    if (read(ext_superblock, block)) {
        if (auto found = identify_ext(block)) return found;
    }
    if (read(0, block) && begins_with(block, 0, "XFSB")) return FileSystemOnDisk{.type = "xfs"};
    if (read(btrfs_superblock, block) && begins_with(block, 0x40, "_BHRfS_M")) {
        return FileSystemOnDisk{.type = "btrfs"};
    }
    return std::nullopt;
}

Result<void> mount_root(int device, const std::string& path, const char* target) {
    const auto found = identify_file_system([device](std::uint64_t offset, std::span<std::byte> out) {
        return ::pread(device, out.data(), out.size(), static_cast<off_t>(offset)) ==
               static_cast<ssize_t>(out.size());
    });
    if (!found) return fail(Errc::unsupported, path + " holds no ext4, xfs or btrfs file system");
    if (!kernel_has_file_system(found->type)) {
        return fail(
            Errc::unsupported,
            fmt::format("{} holds {}, and this kernel and initrd have no driver for it", path, found->type));
    }
    const std::string options = mount_options(*found, device);
    if (::mount(path.c_str(), target, found->type.c_str(), MS_NOATIME, options.c_str()) != 0) {
        return fail_errno(errno, fmt::format("mount {} as {}", path, found->type));
    }
    if (found->block_size > 0) grow_to_disk(*found, device, target);
    return {};
}

}  // namespace noid::agent
