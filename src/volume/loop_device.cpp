#include "volume/loop_device.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <cerrno>
#include <utility>

#include "base/file.hpp"

namespace noid::volume {

namespace fs = std::filesystem;

namespace {

constexpr int most_attempts = 16;  // another program may be faster with the device that was free

bool configure(const Fd& device, const Fd& file, __u32 flags) {
    loop_config config{};
    config.fd = static_cast<__u32>(file.get());
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR | flags;
    return ::ioctl(device.get(), LOOP_CONFIGURE, &config) == 0;
}

}  // namespace

Result<LoopDevice> attach_loop_device(const Fd& file) {
    const auto control = open_file("/dev/loop-control", O_RDWR);
    if (!control) return fail(control.error());
    for (int attempt = 0; attempt < most_attempts; ++attempt) {
        const int number = ::ioctl(control->get(), LOOP_CTL_GET_FREE);
        if (number < 0) return fail_errno(errno, "find a free loop device");
        fs::path path = fmt::format("/dev/loop{}", number);
        auto device = open_file(path, O_RDWR);
        if (!device) return fail(std::move(device.error()));
        if (configure(*device, file, LO_FLAGS_DIRECT_IO)) return LoopDevice{std::move(*device), path};
        // Not every file system reads and writes past the page cache.
        if (errno == EINVAL && configure(*device, file, 0)) return LoopDevice{std::move(*device), path};
        if (errno != EBUSY) return fail_errno(errno, "set up " + path.string());
    }
    return fail(Errc::unavailable, "others take every free loop device");
}

Result<std::optional<LoopDevice>> find_loop_device(const Fd& file) {
    struct stat wanted {};
    if (::fstat(file.get(), &wanted) != 0) return fail_errno(errno, "look at the image");
    std::error_code failed;
    for (fs::directory_iterator entry{"/sys/block", failed}, end; !failed && entry != end;
         entry.increment(failed)) {
        std::error_code ignored;
        if (!fs::exists(entry->path() / "loop" / "backing_file", ignored)) continue;
        fs::path path = "/dev" / entry->path().filename();
        auto device = open_file(path, O_RDWR);
        loop_info64 info{};
        if (!device || ::ioctl(device->get(), LOOP_GET_STATUS64, &info) != 0) continue;  // just taken apart
        if (info.lo_device == wanted.st_dev && info.lo_inode == wanted.st_ino)
            return LoopDevice{std::move(*device), std::move(path)};
    }
    if (failed) return fail_errno(failed.value(), "list the block devices");
    return std::nullopt;
}

Result<void> update_size(const LoopDevice& device) {
    if (::ioctl(device.fd.get(), LOOP_SET_CAPACITY) != 0)
        return fail_errno(errno, "grow " + device.path.string());
    return {};
}

}  // namespace noid::volume
