#include "launcher/ready_namespaces.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <utility>

#include "base/file.hpp"
#include "launcher/private_root.hpp"

namespace noid::launcher {

namespace {

// A process that is in the namespaces until they have been opened. Ends with this.
class Inhabitant {
  public:
    static Result<Inhabitant> start() {
        std::array<int, 2> ends{};
        if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail_errno(errno, "cannot make a pipe");
        Fd reader{ends[0]};
        Fd writer{ends[1]};
        int pidfd = -1;
        // clone3 is refused by filters of system calls that restrict namespaces (see launcher.cpp).
        const auto pid =
            static_cast<pid_t>(::syscall(SYS_clone, CLONE_PIDFD | CLONE_NEWNS | CLONE_NEWNET | SIGCHLD,
                                         nullptr, &pidfd, nullptr, nullptr));
        if (pid == 0) furnish(writer.get());
        if (pid < 0) return fail_errno(errno, "cannot make namespaces");
        Inhabitant inhabitant{pid, Fd{pidfd}};
        writer.reset();
        int error_number = EIO;
        if (::read(reader.get(), &error_number, sizeof error_number) != sizeof error_number)
            error_number = EIO;
        if (error_number != 0) return fail_errno(error_number, "cannot make an empty root");
        return inhabitant;
    }
    Inhabitant(Inhabitant&&) noexcept = default;
    Inhabitant& operator=(Inhabitant&&) = delete;
    ~Inhabitant() {
        if (!pidfd_) return;
        ::syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0);
        siginfo_t ignored{};
        while (::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(pidfd_.get()), &ignored, WEXITED) !=
                   0 &&
               errno == EINTR) {
        }
    }

    [[nodiscard]] Result<Fd> open(const char* kind) const {
        return open_file(fmt::format("/proc/{}/ns/{}", pid_, kind), O_RDONLY);
    }

  private:
    Inhabitant(pid_t pid, Fd pidfd) noexcept : pid_{pid}, pidfd_{std::move(pidfd)} {}

    // In the child, which is a copy of one thread of maybe many: only system calls.
    [[noreturn]] static void furnish(int writer) {
        // Nobody else would end it.
        const bool ends_with_us = ::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == 0;
        const int error_number = ends_with_us && make_empty_root() ? 0 : errno;
        if (::write(writer, &error_number, sizeof error_number) != sizeof error_number) ::_exit(1);
        for (;;) ::pause();
    }

    pid_t pid_;
    Fd pidfd_;
};

}  // namespace

Result<ReadyNamespaces> ReadyNamespaces::make() {
    const auto inhabitant = Inhabitant::start();
    if (!inhabitant) return fail(inhabitant.error());
    auto mounts = inhabitant->open("mnt");
    if (!mounts) return fail(std::move(mounts.error()));
    auto network = inhabitant->open("net");
    if (!network) return fail(std::move(network.error()));
    return ReadyNamespaces{std::move(*mounts), std::move(*network)};
}

}  // namespace noid::launcher
