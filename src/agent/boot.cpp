#include "agent/boot.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <string>
#include <system_error>
#include <utility>

#include "agent/device_events.hpp"
#include "agent/kernel_log.hpp"
#include "agent/power.hpp"
#include "agent/root_file_system.hpp"
#include "base/fd.hpp"

namespace noid::agent {

namespace {

using namespace std::chrono_literals;

// A disk is there some milliseconds after its driver; this is for a host that is very busy.
constexpr auto root_device_limit = 10s;
constexpr auto root_mount_point = "/root";

Result<void> mount_at(const char* type, const char* target, unsigned long flags, const char* options) {
    if (::mount(type, target, type, flags, options) == 0) return {};
    return fail_errno(errno, fmt::format("mount {} at {}", type, target));
}

Result<void> mount_kernel_file_systems() {
    if (auto dev = mount_at("devtmpfs", "/dev", MS_NOSUID, "mode=0755"); !dev) return dev;
    if (auto proc = mount_at("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr); !proc) return proc;
    return mount_at("sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr);
}

// Makes the file system at root_mount_point the root, and takes the kernel's along. The initrd is
// covered by it from then on.
Result<void> switch_root() {
    for (const char* directory : {"/dev", "/proc", "/sys", "/run"}) {
        const std::string target = std::string{root_mount_point} + directory;
        if (::mkdir(target.c_str(), 0755) != 0 && errno != EEXIST)
            return fail_errno(errno, "create " + target);
    }
    for (const char* directory : {"/dev", "/proc", "/sys"}) {
        const std::string target = std::string{root_mount_point} + directory;
        if (::mount(directory, target.c_str(), nullptr, MS_MOVE, nullptr) != 0) {
            return fail_errno(errno, fmt::format("move {} to the root file system", directory));
        }
    }
    if (::chdir(root_mount_point) != 0 || ::mount(".", "/", nullptr, MS_MOVE, nullptr) != 0 ||
        ::chroot(".") != 0 || ::chdir("/") != 0) {
        return fail_errno(errno, "switch to the root file system");
    }
    return {};
}

// Before any init: where the agent keeps its state, and terminals for its sessions.
Result<void> mount_for_agent() {
    if (auto run = mount_at("tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=0755"); !run) return run;
    if (::mkdir("/run/noid", 0700) != 0) return fail_errno(errno, "create /run/noid");
    if (::mkdir("/dev/pts", 0755) != 0) return fail_errno(errno, "create /dev/pts");
    return mount_at("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "gid=5,mode=0620,ptmxmode=0666");
}

struct Booted {
    BootOptions options;
    Initrd initrd;
};

Result<Booted> enter_root_file_system() {
    if (auto mounted = mount_kernel_file_systems(); !mounted) return fail(mounted.error());
    auto options = read_boot_options();
    if (!options) return fail(options.error());
    auto initrd = Initrd::open();
    if (!initrd) return fail(initrd.error());
    auto events = DeviceEvents::open();
    if (!events) return fail(events.error());
    initrd->load(ModuleStage::early);
    const auto device = events->wait_for_block_device(options->root, root_device_limit);
    if (!device) return fail(device.error());
    if (auto root = mount_root(device->get(), options->root, root_mount_point); !root)
        return fail(root.error());
    if (auto switched = switch_root(); !switched) return fail(switched.error());
    if (auto mounted = mount_for_agent(); !mounted) return fail(mounted.error());
    return Booted{*std::move(options), *std::move(initrd)};
}

// Becomes the image's init, with the agent beside it. Returns only when that cannot be, with the
// reason; then no agent was started.
std::error_code become_init(std::string path, const AgentMain& agent_main, const Initrd& initrd) {
    if (::access(path.c_str(), X_OK) != 0) return {errno, std::generic_category()};
    const auto agent = start_agent_beside_init(agent_main, initrd);
    if (!agent) return agent.error().cause;

    std::string home = "HOME=/";
    std::string terminal = "TERM=linux";
    std::string search = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    std::array<char*, 2> arguments{path.data(), nullptr};
    std::array<char*, 4> environment{home.data(), terminal.data(), search.data(), nullptr};
    ::execve(path.c_str(), arguments.data(), environment.data());
    const std::error_code reason{errno, std::generic_category()};
    [[maybe_unused]] const ssize_t told = ::write(agent->get(), "!", 1);
    return reason;
}

}  // namespace

void run_as_first_process(const AgentMain& agent_main) {
    auto booted = enter_root_file_system();
    if (!booted) {
        kernel_log(LogLevel::error, "boot failed: " + booted.error().what);
        reset_now();
    }
    const auto& [options, initrd] = *booted;
    if (!options.init.empty()) {
        const auto reason = become_init(options.init, agent_main, initrd);
        // No reason to be without a machine: the agent takes its place, and the console says so.
        kernel_log(LogLevel::error,
                   fmt::format("cannot run the image's init {}: {}; the agent is PID 1 in its place",
                               options.init, reason.message()));
    }
    serve_as_init(agent_main, initrd, options.power_off);
}

}  // namespace noid::agent
