#include "agent/init.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <climits>
#include <csignal>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "agent/kernel_log.hpp"
#include "agent/network.hpp"
#include "agent/power.hpp"
#include "agent/text_file.hpp"
#include "base/fd.hpp"

namespace noid::agent {

namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

// An agent that ends sooner than this after its start is given a pause before the next one.
constexpr auto short_life = 1s;

void write_or_log(const std::string& path, std::string_view text) {
    if (const auto written = write_kernel_file(path, text); !written) {
        kernel_log(LogLevel::info, written.error().what);
    }
}

void mount_or_log(const char* type, const char* target, unsigned long flags, const char* options) {
    ::mkdir(target, 0755);
    if (::mount(type, target, type, flags, options) == 0 || errno == EBUSY) return;
    kernel_log(LogLevel::error, fmt::format("cannot mount {} at {}: {}", type, target,
                                            std::generic_category().message(errno)));
}

void mount_for_programs() {
    mount_or_log("tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777");
    mount_or_log("cgroup2", "/sys/fs/cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC, "nsdelegate");
    if (::mkdir("/tmp", 01777) == 0) ::chmod("/tmp", 01777);
    for (const auto& [target, link] : {std::pair{"/proc/self/fd", "/dev/fd"},
                                       {"/proc/self/fd/0", "/dev/stdin"},
                                       {"/proc/self/fd/1", "/dev/stdout"},
                                       {"/proc/self/fd/2", "/dev/stderr"}}) {
        [[maybe_unused]] const int existing = ::symlink(target, link);
    }
}

// What Debian's own init sets and the kernel does not.
void set_kernel_defaults() {
    write_or_log("/proc/sys/fs/protected_hardlinks", "1");
    write_or_log("/proc/sys/fs/protected_symlinks", "1");
    write_or_log("/proc/sys/fs/protected_fifos", "1");
    write_or_log("/proc/sys/fs/protected_regular", "2");
    write_or_log("/proc/sys/net/ipv4/ping_group_range", "0 2147483647");
}

void set_hostname_from_image() {
    std::string name = read_text_file("/etc/hostname", 4096).value_or("");
    name.resize(std::min({name.size(), name.find_first_of(" \t\r\n"), std::size_t{HOST_NAME_MAX}}));
    if (name.empty()) name = "noid";
    if (::sethostname(name.data(), name.size()) != 0) kernel_log(LogLevel::info, "cannot set the host name");
}

// The signals that this process waits for; they are blocked from before the first child.
class Signals {
  public:
    explicit Signals(std::initializer_list<int> numbers) {
        ::sigemptyset(&set_);
        for (const int number : numbers) ::sigaddset(&set_, number);
        ::sigprocmask(SIG_BLOCK, &set_, nullptr);
    }

    // The next signal's number; nothing when `limit` passes first.
    [[nodiscard]] std::optional<int> wait(std::optional<Clock::duration> limit) const {
        timespec time{};
        if (limit) {
            const auto nanoseconds = std::max<std::int64_t>(std::chrono::nanoseconds{*limit}.count(), 0);
            time = {.tv_sec = nanoseconds / 1'000'000'000, .tv_nsec = nanoseconds % 1'000'000'000};
        }
        const int number = ::sigtimedwait(&set_, nullptr, limit ? &time : nullptr);
        if (number < 0) return std::nullopt;
        return number;
    }

  private:
    sigset_t set_{};
};

// Keeps one agent running as a child of this process.
class AgentKeeper {
  public:
    explicit AgentKeeper(const AgentMain& agent_main) : agent_main_{agent_main} {}

    void start() {
        due_.reset();
        started_ = Clock::now();
        pid_ = ::fork();
        if (pid_ == 0) {
            ::setsid();
            ::prctl(PR_SET_NAME, "noid-agent");
            sigset_t none;
            ::sigemptyset(&none);
            ::sigprocmask(SIG_SETMASK, &none, nullptr);
            ::_exit(agent_main_());
        }
        if (pid_ < 0) due_ = started_ + short_life;
    }

    // Reaps all children that have ended, and plans a new agent if it was among them.
    void reap() {
        int status = 0;
        while (const pid_t pid = ::waitpid(-1, &status, WNOHANG)) {
            if (pid < 0) return;
            if (pid == pid_) ended(status);
        }
    }

    // How long until start() is due; nothing while the agent runs.
    [[nodiscard]] std::optional<Clock::duration> until_start() const {
        if (!due_) return std::nullopt;
        return std::max(*due_ - Clock::now(), Clock::duration::zero());
    }

  private:
    void ended(int status) {
        pid_ = -1;
        const auto now = Clock::now();
        due_ = now - started_ < short_life ? now + short_life : now;
        kernel_log(LogLevel::error, WIFSIGNALED(status)
                                        ? fmt::format("the agent was killed by signal {}", WTERMSIG(status))
                                        : fmt::format("the agent ended with status {}", WEXITSTATUS(status)));
    }

    const AgentMain& agent_main_;
    pid_t pid_ = -1;
    Clock::time_point started_{};
    std::optional<Clock::time_point> due_;
};

// What can wait until the agent is up, at a low priority beside it.
void finish_boot(const Initrd& initrd) {
    ::setpriority(PRIO_PROCESS, 0, 19);
    initrd.load(ModuleStage::late);
    initrd.remove();
    ::setpriority(PRIO_PROCESS, 0, 0);
}

// A cgroup of the agent's own, so that no limit on the image's services counts the agent in. The
// hierarchy is mounted only for a moment: the image's init mounts it as it likes.
void enter_own_cgroup() {
    constexpr auto mount_point = "/run/noid/cgroup";
    ::mkdir(mount_point, 0700);
    if (::mount("cgroup2", mount_point, "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) != 0) return;
    const std::string group = std::string{mount_point} + "/noid-agent";
    ::mkdir(group.c_str(), 0755);
    write_or_log(group + "/cgroup.procs", "0");
    ::umount2(mount_point, MNT_DETACH);
    ::rmdir(mount_point);
}

}  // namespace

void serve_as_init(const AgentMain& agent_main, const Initrd& initrd, PowerOff how) {
    const int systemd_power_off = SIGRTMIN + 4;
    const int systemd_reboot = SIGRTMIN + 5;
    const Signals signals{SIGCHLD, SIGUSR2, SIGPWR, SIGTERM, SIGINT, systemd_power_off, systemd_reboot};
    ::reboot(RB_DISABLE_CAD);

    mount_for_programs();
    set_kernel_defaults();
    set_hostname_from_image();
    if (const auto up = bring_up_loopback(); !up) kernel_log(LogLevel::error, up.error().what);
    // For the agent, which inherits it; PID 1 is spared anyway, and commands get the usual score.
    write_or_log("/proc/self/oom_score_adj", "-1000");

    AgentKeeper agent{agent_main};
    agent.start();
    finish_boot(initrd);
    while (true) {
        const auto number = signals.wait(agent.until_start());
        agent.reap();
        if (number == SIGUSR2 || number == SIGPWR || number == systemd_power_off) power_off_now(how);
        if (number == SIGTERM || number == SIGINT || number == systemd_reboot) power_off_now(PowerOff::reset);
        if (agent.until_start() == Clock::duration::zero()) agent.start();
    }
}

Result<Fd> start_agent_beside_init(const AgentMain& agent_main, const Initrd& initrd) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail_errno(errno, "start the agent");
    const Fd outcome{ends[0]};
    Fd caller{ends[1]};
    const pid_t keeper = ::fork();
    if (keeper < 0) return fail_errno(errno, "start the agent");
    if (keeper > 0) return caller;

    caller.reset();
    char byte = 0;
    if (::read(outcome.get(), &byte, 1) != 0) ::_exit(0);
    ::setsid();
    ::prctl(PR_SET_NAME, "noid-keeper");
    const Signals signals{SIGCHLD};
    enter_own_cgroup();
    write_or_log("/proc/self/oom_score_adj", "-1000");
    AgentKeeper agent{agent_main};
    agent.start();
    finish_boot(initrd);
    while (true) {
        [[maybe_unused]] const auto number = signals.wait(agent.until_start());
        agent.reap();
        if (agent.until_start() == Clock::duration::zero()) agent.start();
    }
}

}  // namespace noid::agent
