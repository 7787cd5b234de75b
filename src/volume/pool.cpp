#include "volume/pool.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/btrfs.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <limits>
#include <utility>
#include <vector>

#include "base/file.hpp"
#include "launcher/captured_output.hpp"
#include "launcher/launcher.hpp"
#include "volume/loop_device.hpp"

namespace noid::volume {

namespace fs = std::filesystem;

namespace {

constexpr const char* image_file = "pool.btrfs";
constexpr const char* unfinished_image = "pool.btrfs.new";
constexpr const char* mount_point = "pool";
constexpr const char* server_lock = "lock";  // held by a server as long as it has the data directory
constexpr std::size_t longest_words = 1000;
constexpr std::uint64_t kept_free_below = std::uint64_t{256} << 20;  // or an eighth of a small disk

fs::path image_of(const fs::path& data_dir) {
    return data_dir / image_file;
}

bool has_pool(const fs::path& data_dir) {
    std::error_code ignored;
    return fs::exists(image_of(data_dir), ignored);
}

Result<bool> is_mounted(const fs::path& data_dir) {
    struct stat outside {};
    struct stat inside {};
    struct statfs kind {};
    const fs::path point = data_dir / mount_point;
    if (::stat(data_dir.c_str(), &outside) != 0) return fail_errno(errno, "look at the data directory");
    if (::stat(point.c_str(), &inside) != 0 || ::statfs(point.c_str(), &kind) != 0) {
        if (errno == ENOENT) return false;
        return fail_errno(errno, "look at the pool");
    }
    return inside.st_dev != outside.st_dev && kind.f_type == BTRFS_SUPER_MAGIC;
}

Result<void> make_file_system(const fs::path& image) {
    const auto program = launcher::find_program("mkfs.btrfs");
    if (!program) return fail(Errc::unavailable, "mkfs.btrfs is not installed (package btrfs-progs)");
    auto output = launcher::CapturedOutput::create(longest_words);
    if (!output) return fail(std::move(output.error()));
    launcher::ProcessSpec spec;
    spec.program = *program;
    // One copy of the metadata: the disk below answers for them.
    spec.arguments = {"--quiet", "--metadata", "single", "--label", "noid", image.string()};
    for (const int number : {1, 2}) {
        auto writer = output->writer();
        if (!writer) return fail(std::move(writer.error()));
        spec.descriptors.push_back({number, std::move(*writer)});
    }
    const auto launched = launcher::launch(spec);
    if (!launched) return fail(launched.error());
    siginfo_t ended{};
    if (::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(launched->pidfd.get()), &ended, WEXITED) !=
        0)
        return fail_errno(errno, "wait for mkfs.btrfs");
    if (ended.si_code != CLD_EXITED || ended.si_status != 0)
        return fail(Errc::unavailable, "mkfs.btrfs: " + output->text(longest_words));
    return {};
}

Result<void> mount_image(const fs::path& data_dir, const Fd& image) {
    const fs::path point = data_dir / mount_point;
    if (::mkdir(point.c_str(), 0700) != 0 && errno != EEXIST)
        return fail_errno(errno, "create the pool's mount point");
    // By descriptor: what is at that name may be somebody else's to change.
    const auto place = open_file(point, O_PATH | O_DIRECTORY | O_NOFOLLOW);
    if (!place) return fail(place.error());
    const auto target = fmt::format("/proc/self/fd/{}", place->get());
    auto device = find_loop_device(image);
    if (!device) return fail(std::move(device.error()));
    if (!*device) {
        auto attached = attach_loop_device(image);
        if (!attached) return fail(std::move(attached.error()));
        *device = std::move(*attached);
    }
    // What VMs give up is given back to the disk below.
    if (::mount((*device)->path.c_str(), target.c_str(), "btrfs", MS_NOATIME | MS_NODEV | MS_NOSUID,
                "discard=async") != 0)
        return fail_errno(errno, "mount the pool");
    return {};
}

// The pool belongs to whom the data directory belongs to.
Result<void> hand_over(const fs::path& data_dir) {
    struct stat owner {};
    const fs::path point = data_dir / mount_point;
    if (::stat(data_dir.c_str(), &owner) != 0) return fail_errno(errno, "look at the data directory");
    if (::chown(point.c_str(), owner.st_uid, owner.st_gid) != 0 || ::chmod(point.c_str(), 0700) != 0)
        return fail_errno(errno, "make the pool private");
    return {};
}

Result<void> grow_to(const fs::path& data_dir, const Fd& image, MiB size) {
    struct stat status {};
    if (::fstat(image.get(), &status) != 0) return fail_errno(errno, "look at the pool's image");
    const auto wanted = static_cast<off_t>(size.bytes());
    if (wanted <= status.st_size) return {};
    const auto device = find_loop_device(image);
    if (!device) return fail(device.error());
    if (!*device) return fail(Errc::conflict, "the pool is mounted, but not from its image");
    if (::ftruncate(image.get(), wanted) != 0) return fail_errno(errno, "grow the pool's image");
    if (auto updated = update_size(**device); !updated) return updated;
    const auto point = open_directory(data_dir / mount_point);
    if (!point) return fail(point.error());
    btrfs_ioctl_vol_args arguments{};
    constexpr std::string_view all = "max";
    std::ranges::copy(all, arguments.name);
    if (::ioctl(point->get(), BTRFS_IOC_RESIZE, &arguments) != 0) return fail_errno(errno, "grow the pool");
    return {};
}

// What was there before the pool would be hidden by it.
bool holds_data(const fs::path& data_dir) {
    for (const char* part : {"users", "templates", "golden", "golden.previous"}) {
        std::error_code ignored;
        if (fs::directory_iterator{data_dir / part, ignored} != fs::directory_iterator{}) return true;
    }
    return false;
}

PoolState unavailable(std::string why) {
    return {PoolState::Use::unavailable, "no pool, so disks are copied: " + std::move(why)};
}

// One that somebody else has made is not for this kernel to read.
Result<Fd> open_own_image(const fs::path& data_dir) {
    auto image = open_file(image_of(data_dir), O_RDWR | O_NOFOLLOW);
    if (!image) return image;
    struct stat status {};
    if (::fstat(image->get(), &status) != 0) return fail_errno(errno, "look at the pool's image");
    if (status.st_uid != ::geteuid())
        return fail(Errc::forbidden, fmt::format("{} belongs to another user", image_of(data_dir).string()));
    return image;
}

// One that could not be mounted leaves nothing behind.
Result<void> make_pool(const fs::path& data_dir, MiB size) {
    const fs::path unfinished = data_dir / unfinished_image;
    ::unlink(unfinished.c_str());
    const auto made = [&]() -> Result<void> {
        const auto image = open_file(unfinished, O_RDWR | O_CREAT | O_EXCL);
        if (!image) return fail(image.error());
        if (::ftruncate(image->get(), static_cast<off_t>(size.bytes())) != 0)
            return fail_errno(errno, "size the pool's image");
        if (auto formatted = make_file_system(unfinished); !formatted) return formatted;
        if (auto mounted = mount_image(data_dir, *image); !mounted) return mounted;
        if (::rename(unfinished.c_str(), image_of(data_dir).c_str()) == 0) return {};
        const int error_number = errno;
        ::umount2((data_dir / mount_point).c_str(), 0);
        return fail_errno(error_number, "name the pool's image");
    }();
    if (!made) {
        ::unlink(unfinished.c_str());
        ::rmdir((data_dir / mount_point).c_str());
    }
    return made;
}

Result<PoolState> make_where_it_helps(const fs::path& data_dir, MiB size) {
    const auto directory = open_directory(data_dir);
    if (!directory) return fail(directory.error());
    const auto own = probe(*directory);
    if (!own) return fail(own.error());
    if ((*own)->clones_are_free())
        return PoolState{PoolState::Use::unneeded, "the file system shares blocks"};
    if (::geteuid() != 0) return unavailable("only root may mount one");
    if (holds_data(data_dir)) return unavailable("the data directory is in use without one");
    if (auto made = make_pool(data_dir, size); !made) return unavailable(made.error().full());
    if (auto handed = hand_over(data_dir); !handed) return fail(std::move(handed.error()));
    return PoolState{PoolState::Use::mounted, fmt::format("made, {} MiB at most", size.count)};
}

// A VMM works in its VM's directory. One that is confined has a mount of its own of it, which ours does not
// know.
bool is_worked_in(const fs::path& point) {
    struct stat pool {};
    if (::stat(point.c_str(), &pool) != 0) return false;
    std::error_code failed;
    for (fs::directory_iterator entry{"/proc", failed}, end; !failed && entry != end;
         entry.increment(failed)) {
        struct stat directory {};
        if (::stat((entry->path() / "cwd").c_str(), &directory) == 0 && directory.st_dev == pool.st_dev)
            return true;
    }
    return false;
}

// The mount option does this too, but slowly and not to its end.
void give_back_what_is_free(const fs::path& point) {
    const auto directory = open_directory(point);
    if (!directory || ::syncfs(directory->get()) != 0) return;
    fstrim_range everything{};
    everything.len = std::numeric_limits<__u64>::max();
    // Where it cannot be done the space stays with the pool, which uses it again.
    [[maybe_unused]] const int done = ::ioctl(directory->get(), FITRIM, &everything);
}

std::uint64_t free_bytes(const struct statvfs& state) {
    return static_cast<std::uint64_t>(state.f_bavail) * state.f_frsize;
}

class PoolVolume final : public Volume {
  public:
    PoolVolume(std::unique_ptr<Volume> inside, Fd below)
        : inside_{std::move(inside)}, below_{std::move(below)} {}
    [[nodiscard]] std::string_view name() const noexcept override { return inside_->name(); }
    [[nodiscard]] bool clones_are_free() const noexcept override { return inside_->clones_are_free(); }
    [[nodiscard]] Result<void> has_room() const override {
        struct statvfs state {};
        if (::fstatvfs(below_.get(), &state) != 0)
            return fail_errno(errno, "look at the disk below the pool");
        const std::uint64_t all = static_cast<std::uint64_t>(state.f_blocks) * state.f_frsize;
        if (free_bytes(state) < std::min(kept_free_below, all / 8))
            return fail(Errc::no_space, "the disk that holds the pool is nearly full");
        return {};
    }
    [[nodiscard]] Result<void> clone(const Place& from, const Place& to) const override {
        if (auto room = has_room(); !room) return room;
        return inside_->clone(from, to);
    }

  private:
    std::unique_ptr<Volume> inside_;
    Fd below_;  // the data directory
};

}  // namespace

Result<PoolState> prepare_pool(const fs::path& data_dir, MiB size) {
    std::error_code failed;
    fs::create_directories(data_dir, failed);
    if (failed) return fail_errno(failed.value(), fmt::format("create directory {}", data_dir.string()));
    // Of two servers that start at once, one makes the pool.
    const auto turn = open_directory(data_dir);
    if (!turn) return fail(turn.error());
    if (::flock(turn->get(), LOCK_EX) != 0) return fail_errno(errno, "lock the data directory");

    if (!has_pool(data_dir)) return make_where_it_helps(data_dir, size);
    const auto image = open_own_image(data_dir);
    if (!image) return fail(image.error());
    const auto already = is_mounted(data_dir);
    if (!already) return fail(already.error());
    if (!*already) {
        if (auto mounted = mount_image(data_dir, *image); !mounted) {
            return fail(
                std::move(mounted.error())
                    .at(fmt::format("the VMs are in {}, which cannot be used", image_of(data_dir).string())));
        }
    }
    if (auto grown = grow_to(data_dir, *image, size); !grown) return fail(std::move(grown.error()));
    return PoolState{PoolState::Use::mounted, *already ? "found mounted" : "mounted"};
}

Result<void> unmount_pool(const fs::path& data_dir) {
    if (!has_pool(data_dir)) return fail(Errc::not_found, "there is no pool");
    const auto mounted = is_mounted(data_dir);
    if (!mounted) return fail(mounted.error());
    if (!*mounted) return {};
    const fs::path point = data_dir / mount_point;
    if (is_worked_in(point)) return fail(Errc::conflict, "VMs run in the pool");
    // A server may have a mount of its own of it, so that nothing holds this one.
    const auto lock = open_file(data_dir / server_lock, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    if (lock && ::flock(lock->get(), LOCK_EX | LOCK_NB) != 0)
        return fail(Errc::conflict, "the pool is in use by the server");
    give_back_what_is_free(point);
    if (::umount2(point.c_str(), UMOUNT_NOFOLLOW) == 0) return {};
    if (errno == EBUSY) return fail(Errc::conflict, "the pool is in use by the server");
    return fail_errno(errno, "unmount the pool");
}

Result<fs::path> storage_root(const fs::path& data_dir) {
    if (!has_pool(data_dir)) return data_dir;
    const auto mounted = is_mounted(data_dir);
    if (!mounted) return fail(mounted.error());
    if (*mounted) return data_dir / mount_point;
    return fail(Errc::unavailable,
                fmt::format("the VMs are in {}, which is not mounted: start the server, or run "
                            "`noid-server storage mount`",
                            image_of(data_dir).string()));
}

Result<PoolUsage> pool_usage(const fs::path& data_dir) {
    PoolUsage usage;
    usage.image = image_of(data_dir);
    struct stat image {};
    struct statvfs below {};
    if (::stat(usage.image.c_str(), &image) != 0) return fail_errno(errno, "look at the pool's image");
    if (::statvfs(data_dir.c_str(), &below) != 0) return fail_errno(errno, "look at the disk below the pool");
    const auto mounted = is_mounted(data_dir);
    if (!mounted) return fail(mounted.error());
    constexpr std::uint64_t sector = 512;
    usage.mounted = *mounted;
    usage.size = MiB{static_cast<std::uint64_t>(image.st_size) >> 20};
    usage.allocated = static_cast<std::uint64_t>(image.st_blocks) * sector;
    usage.free_below = free_bytes(below);
    return usage;
}

Result<std::unique_ptr<Volume>> probe_storage(const fs::path& data_dir, const fs::path& directory) {
    const auto root = storage_root(data_dir);
    if (!root) return fail(root.error());
    const auto place = open_directory(directory);
    if (!place) return fail(place.error());
    auto volume = probe(*place);
    if (!volume || *root == data_dir) return volume;
    auto below = open_directory(data_dir);
    if (!below) return fail(std::move(below.error()));
    return std::make_unique<PoolVolume>(std::move(*volume), std::move(*below));
}

}  // namespace noid::volume
