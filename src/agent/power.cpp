#include "agent/power.hpp"

#include <dirent.h>
#include <poll.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.hpp"

namespace noid::agent {

namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr auto term_grace = 2s;
constexpr auto kill_grace = 1s;

bool is_kernel_thread(const std::string& pid) {
    // A kernel thread has no program; neither has a zombie, which needs no signal either.
    std::array<char, 2> target{};
    return ::readlink(("/proc/" + pid + "/exe").c_str(), target.data(), target.size()) < 0;
}

// A pidfd for each process but this one and PID 1.
std::vector<Fd> other_processes() {
    constexpr std::size_t enough = 512;  // well below the usual limit of descriptors
    std::vector<Fd> found;
    const std::unique_ptr<DIR, int (*)(DIR*)> directory{::opendir("/proc"), &::closedir};
    if (!directory) return found;
    while (const dirent* entry = ::readdir(directory.get())) {
        const std::string name = entry->d_name;
        pid_t pid = 0;
        const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), pid);
        if (error != std::errc{} || end != name.data() + name.size()) continue;
        if (pid == 1 || pid == ::getpid() || is_kernel_thread(name)) continue;
        if (Fd process{static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))}; process) {
            found.push_back(std::move(process));
            if (found.size() == enough) break;
        }
    }
    return found;
}

void wait_for_end(const std::vector<Fd>& processes, Clock::duration limit) {
    const auto deadline = Clock::now() + limit;
    for (const auto& process : processes) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
        pollfd ended{process.get(), POLLIN, 0};
        ::poll(&ended, 1, static_cast<int>(std::max<std::int64_t>(left, 0)));
    }
}

// A pid when the image has the program, and could start it.
std::optional<pid_t> start(const std::string& program) {
    for (const char* directory : {"/sbin/", "/usr/sbin/", "/bin/", "/usr/bin/"}) {
        std::string path = directory + program;
        std::array<char*, 2> argv{path.data(), nullptr};
        std::array<char*, 1> environment{nullptr};
        pid_t pid = -1;
        if (::posix_spawn(&pid, path.c_str(), nullptr, nullptr, argv.data(), environment.data()) == 0)
            return pid;
    }
    return std::nullopt;
}

bool agent_is_init() {
    // PID 1 and this process run the same program when it is ours.
    std::array<char, 256> own{};
    std::array<char, 256> init{};
    const ssize_t own_size = ::readlink("/proc/self/exe", own.data(), own.size());
    const ssize_t init_size = ::readlink("/proc/1/exe", init.data(), init.size());
    return own_size > 0 && own_size == init_size && own == init;
}

}  // namespace

Result<void> request_power_off() {
    if (agent_is_init()) {
        if (::kill(1, SIGUSR2) != 0) return fail_errno(errno, "ask init to power off");
        return {};
    }
    const auto options = read_boot_options();
    if (!options) return fail(options.error());
    const PowerOff how = options->power_off;
    if (start(how == PowerOff::reset ? "reboot" : "poweroff")) return {};
    power_off_now(how);
}

void power_off_now(PowerOff how) {
    const auto others = other_processes();
    ::kill(-1, SIGTERM);
    wait_for_end(others, term_grace);
    ::kill(-1, SIGKILL);
    wait_for_end(others, kill_grace);
    ::sync();
    ::mount(nullptr, "/", nullptr, MS_REMOUNT | MS_RDONLY, nullptr);
    ::reboot(how == PowerOff::power_off ? RB_POWER_OFF : RB_AUTOBOOT);
    reset_now();
}

void reset_now() {
    ::reboot(RB_AUTOBOOT);
    ::_exit(1);  // the kernel panics when its first process ends
}

}  // namespace noid::agent
