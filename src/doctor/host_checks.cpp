#include "doctor/host_checks.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <netdb.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <memory>
#include <string>

#include "base/fd.hpp"
#include "base/file.hpp"
#include "base/unix_socket.hpp"
#include "vmm/userfaultfd.hpp"
#include "volume/pool.hpp"

namespace noid::doctor {
namespace {

namespace fs = std::filesystem;

Finding ok(std::string subject, std::string found) {
    return {std::move(subject), Verdict::ok, std::move(found), {}};
}
Finding warning(std::string subject, std::string found, std::string advice) {
    return {std::move(subject), Verdict::warning, std::move(found), std::move(advice)};
}
Finding failure(std::string subject, std::string found, std::string advice) {
    return {std::move(subject), Verdict::failure, std::move(found), std::move(advice)};
}

std::string system_text(int error_number) {
    return std::generic_category().message(error_number);
}

// Whether a server is at work on that data directory.
bool is_served(const fs::path& data_dir) {
    auto directory = open_directory(data_dir);
    return directory && connect_unix_at_once(*directory, "admin.sock").has_value();
}

// Reads exactly `size` bytes at `offset`; empty when there are fewer or the file cannot be read.
std::string read_at(const fs::path& file, std::size_t offset, std::size_t size) {
    const Fd fd{::open(file.c_str(), O_RDONLY | O_CLOEXEC)};
    std::string bytes(size, '\0');
    if (!fd ||
        ::pread(fd.get(), bytes.data(), size, static_cast<off_t>(offset)) != static_cast<ssize_t>(size))
        return {};
    return bytes;
}

std::string first_line(const fs::path& file) {
    std::ifstream stream{file};
    std::string line;
    std::getline(stream, line);
    return line;
}

constexpr auto images_advice = "scripts/quickstart makes one, or name your own in [paths]";

// A file in the data directory that is gone again when this ends, whatever happens: it never has a name.
Fd unnamed_file(const fs::path& directory) {
    return Fd{::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)};
}

}  // namespace

Finding check_kernel(const config::ServerConfig& config) {
    const auto& file = config.paths.kernel;
    const std::string magic = read_at(file, 0, 20);
    if (magic.empty())
        return failure("kernel", fmt::format("{} cannot be read", file.string()), images_advice);
    if (magic.compare(0, 4, "\177ELF") != 0 || magic[18] != 62 /* EM_X86_64 */) {
        return failure("kernel", fmt::format("{} is not an uncompressed x86-64 ELF kernel", file.string()),
                       "give a vmlinux, not a bzImage; scripts/guest/build-kernel extracts one");
    }
    return ok("kernel", file.string());
}

Finding check_initrd(const config::ServerConfig& config) {
    const auto& file = config.paths.initrd;
    if (read_at(file, 0, 6).empty())
        return failure("initrd", fmt::format("{} cannot be read", file.string()), images_advice);
    return ok("initrd", file.string());
}

Finding check_rootfs(const config::ServerConfig& config) {
    const auto& file = config.paths.rootfs;
    constexpr std::size_t superblock_magic_at = 1024 + 56;  // struct ext4_super_block.s_magic
    const std::string magic = read_at(file, superblock_magic_at, 2);
    if (magic.empty())
        return failure("image", fmt::format("{} cannot be read", file.string()), images_advice);
    if (magic != "\x53\xef")
        return failure("image", fmt::format("{} is not an ext4 file system", file.string()), images_advice);
    return ok("image", file.string());
}

Finding check_data_directory(const config::ServerConfig& config) {
    const auto& directory = config.paths.data_dir;
    std::error_code error;
    if (!fs::exists(directory, error)) {
        return warning("data directory", fmt::format("{} is not there yet", directory.string()),
                       "the server makes it at its first start");
    }
    if (!unnamed_file(directory)) {
        return failure("data directory", fmt::format("{}: {}", directory.string(), system_text(errno)),
                       "let the server's user own it: chown -R USER " + directory.string());
    }
    return ok("data directory", directory.string());
}

Finding check_reflink(const config::ServerConfig& config) {
    const auto& directory = config.paths.data_dir;
    if (const auto pool = volume::pool_usage(directory))
        return ok("reflink", "disks are cloned without copying, in " + pool->image.string());
    const Fd source = unnamed_file(directory);
    const Fd target = unnamed_file(directory);
    if (!source || !target) {
        return warning("reflink", "not tried: the data directory cannot be written", "see 'data directory'");
    }
    const std::string block(4096, 'x');
    if (::write(source.get(), block.data(), block.size()) != static_cast<ssize_t>(block.size())) {
        return failure("reflink", "writing to the data directory failed: " + system_text(errno),
                       "see 'free disk'");
    }
    if (::ioctl(target.get(), FICLONE, source.get()) == 0)
        return ok("reflink", "disks are cloned without copying");
    return warning("reflink", "this file system copies where btrfs or XFS would share",
                   "put the data directory on btrfs or XFS for instant clones");
}

Finding check_free_disk(const config::ServerConfig& config) {
    fs::path place = config.paths.data_dir;
    std::error_code error;
    while (!fs::exists(place, error) && place.has_parent_path() && place != place.parent_path())
        place = place.parent_path();
    struct statvfs info {};
    if (::statvfs(place.c_str(), &info) != 0)
        return failure("free disk", system_text(errno), "check " + place.string());
    const double free_gib =
        static_cast<double>(info.f_bavail) * static_cast<double>(info.f_frsize) / (1 << 30);
    const std::string found = fmt::format("{:.1f} GiB free at {}", free_gib, place.string());
    if (free_gib < 1) return failure("free disk", found, "free some space: a VM writes its own disk");
    if (free_gib < 5)
        return warning("free disk", found, "a VM's disk and each full checkpoint's memory need space");
    return ok("free disk", found);
}

Finding check_listen_address(const config::ServerConfig& config) {
    const std::string& listen = config.server.listen;
    const auto colon = listen.rfind(':');
    std::string host = listen.substr(0, colon);
    if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
    addrinfo* found = nullptr;
    const int lookup = ::getaddrinfo(host.empty() ? nullptr : host.c_str(), listen.substr(colon + 1).c_str(),
                                     &hints, &found);
    if (lookup != 0)
        return failure("listen", listen + ": " + ::gai_strerror(lookup), "correct [server] listen");
    const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner{found, &::freeaddrinfo};
    const Fd socket{::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    const int on = 1;
    ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (::bind(socket.get(), found->ai_addr, found->ai_addrlen) == 0)
        return ok("listen", listen + " is free");
    if (errno == EADDRINUSE) {
        if (is_served(config.paths.data_dir)) return ok("listen", listen + " is in use, and the server runs");
        return warning("listen", listen + " is in use", "stop the other program or change [server] listen");
    }
    return failure("listen", listen + ": " + system_text(errno), "correct [server] listen");
}

Finding check_pauses() {
    const Fd made{vmm::make_userfaultfd()};
    if (made) return ok("pauses", "under QEMU too, a checkpoint's does not grow with the guest's memory");
    return ok(
        "pauses",
        fmt::format("under QEMU a checkpoint's grows with what the guest has written: the kernel does not "
                    "tell what changed ({}; Linux 6.7 does)",
                    system_text(errno)));
}

Finding check_ip_forwarding() {
    if (first_line("/proc/sys/net/ipv4/ip_forward") == "1") return ok("IP forwarding", "on");
    return warning("IP forwarding", "off: guests cannot reach the internet",
                   "sysctl -w net.ipv4.ip_forward=1");
}

Finding check_entropy() {
    char byte = 0;
    if (::getrandom(&byte, 1, GRND_NONBLOCK) == 1) return ok("entropy", "the kernel's generator is seeded");
    return failure("entropy", "the kernel's generator is not seeded",
                   "give the host a virtio-rng or a newer kernel");
}

Finding check_descriptor_limit(const config::ServerConfig& config) {
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    // A VM holds about ten descriptors, a session two.
    const rlim_t wanted = 256 + 10 * static_cast<rlim_t>(config.limits.max_vms) +
                          2 * static_cast<rlim_t>(config.server.max_ws_sessions);
    const std::string found = fmt::format("{} descriptors allowed, {} wanted", limit.rlim_max, wanted);
    if (limit.rlim_max >= wanted) return ok("descriptors", found);
    return warning("descriptors", found, "raise it: LimitNOFILE=65536 in the unit, or ulimit -n");
}

Finding check_cgroups() {
    const std::string controllers = first_line("/sys/fs/cgroup/cgroup.controllers");
    constexpr auto advice = "VMMs run without cgroup limits; boot with systemd.unified_cgroup_hierarchy=1";
    if (controllers.empty()) return warning("cgroups", "no cgroup v2 at /sys/fs/cgroup", advice);
    for (const char* wanted : {"cpu", "memory", "pids"}) {
        if ((" " + controllers + " ").find(fmt::format(" {} ", wanted)) == std::string::npos) {
            return warning("cgroups", fmt::format("controller '{}' is missing", wanted), advice);
        }
    }
    return ok("cgroups", controllers);
}

}  // namespace noid::doctor
