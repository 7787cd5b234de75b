#include "privileged/separation.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/capability.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <utility>

#include "base/file.hpp"
#include "launcher/capabilities.hpp"
#include "privileged/passage.hpp"

namespace noid::privileged {

namespace fs = std::filesystem;

namespace {

constexpr unsigned predecessor_limit = 10;  // seconds

// What starting, watching and ending VMMs takes.
constexpr std::array needed_capabilities{
    CAP_SYS_ADMIN, CAP_SYS_CHROOT, CAP_SETUID, CAP_SETGID,       CAP_SETPCAP,    CAP_CHOWN,       CAP_FOWNER,
    CAP_FSETID,    CAP_KILL,       CAP_MKNOD,  CAP_DAC_OVERRIDE, CAP_SYS_PTRACE, CAP_SYS_RESOURCE};

bool is_served(const fs::path& data_dir) {
    const auto lock = open_file(data_dir / "lock", O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    return lock && ::flock(lock->get(), LOCK_SH | LOCK_NB) != 0;
}

// Held by the privileged part as long as it lives: what an earlier one has begun is done before this one
// looks. Not waited for when its server lives, too; then the server's own lock tells whose directory it is.
Result<Fd> await_predecessor(const fs::path& data_dir) {
    auto lock = open_file(data_dir / "privileged.lock", O_RDWR | O_CREAT | O_NOFOLLOW);
    if (!lock) return lock;
    if (::flock(lock->get(), LOCK_EX | LOCK_NB) == 0) return lock;
    if (errno != EWOULDBLOCK) return fail_errno(errno, "cannot lock the data directory");
    if (is_served(data_dir)) return lock;
    struct sigaction interrupt {};
    interrupt.sa_handler = [](int) {};
    struct sigaction before {};
    ::sigaction(SIGALRM, &interrupt, &before);
    ::alarm(predecessor_limit);
    const int done = ::flock(lock->get(), LOCK_EX);
    const int error_number = errno;
    ::alarm(0);
    ::sigaction(SIGALRM, &before, nullptr);
    if (done == 0) return lock;
    if (error_number != EINTR) return fail_errno(error_number, "cannot lock the data directory");
    return fail(Errc::conflict, fmt::format("{} is in use by another noid-server", data_dir.string()));
}

// In the child, which never returns.
[[noreturn]] void keep_the_door(Fd socket, Separation::Plan& plan) {
    ::prctl(PR_SET_NAME, "noid-privileged");
    // It ends when the server does, and not before: a terminal's signals go to both.
    for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) std::signal(number, SIG_IGN);
    if (!launcher::keep_capabilities(needed_capabilities) || ::chdir("/") != 0) ::_exit(1);
    Service{std::move(socket), std::move(plan.warden), std::move(plan.configured)}.run();
    ::_exit(0);
}

}  // namespace

Result<Separation> Separation::begin(Plan plan) {
    auto turn = await_predecessor(plan.data_dir);
    if (!turn) return fail(std::move(turn.error()));
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0)
        return fail_errno(errno, "cannot make a socket pair");
    Fd ours{ends[0]};
    Fd theirs{ends[1]};
    vmm::HostDevices devices = plan.warden->devices();
    const pid_t child = ::fork();
    if (child < 0) return fail_errno(errno, "cannot make the privileged process");
    if (child == 0) {
        ours.reset();
        for (const int each : plan.own_descriptors) ::close(each);
        keep_the_door(std::move(theirs), plan);
    }
    theirs.reset();
    turn->reset();
    Fd pidfd{static_cast<int>(::syscall(SYS_pidfd_open, child, 0))};
    if (!pidfd) return fail_errno(errno, "cannot watch the privileged process");
    plan.warden.reset();
    Separation separation{std::make_shared<RemoteWarden>(std::move(ours), std::move(devices)),
                          std::move(pidfd)};

    if (plan.as_root) {
        if (auto done = plan.as_root(); !done) return fail(std::move(done.error()));
    }
    auto reachable = std::move(plan.reachable);
    reachable.push_back(plan.data_dir);
    if (auto opened = open_passage(reachable, plan.user); !opened) return fail(std::move(opened.error()));
    if (::chdir("/") != 0) return fail_errno(errno, "cannot leave the working directory");
    if (auto done = become(plan.user, plan.own_capabilities); !done) return fail(std::move(done.error()));
    return separation;
}

Separation::~Separation() {
    if (!child_) return;
    warden_->close();
    siginfo_t ignored{};
    while (::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(child_.get()), &ignored, WEXITED) !=
               0 &&
           errno == EINTR) {
    }
}

}  // namespace noid::privileged
