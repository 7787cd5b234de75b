#include "launcher/process.hpp"

#include <fmt/format.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

namespace noid::launcher {

std::string describe(const ExitStatus& status) {
    switch (status.how) {
        case ExitStatus::How::exited:
            return fmt::format("exited with status {}", status.value);
        case ExitStatus::How::signalled:
            return fmt::format("killed by signal {} ({})", status.value, ::sigdescr_np(status.value));
        case ExitStatus::How::unknown:
            break;
    }
    return "ended";
}

Process::Process(asio::any_io_executor executor, Launched launched)
    : identity_{launched.identity},
      pidfd_{executor, launched.pidfd.release()},
      signal_{std::move(launched.signal)},
      held_{std::move(launched.held)} {
    if (launched.exit_status) told_.emplace(executor, launched.exit_status.release());
}

Result<Process> Process::adopt(asio::any_io_executor executor, const ProcessIdentity& identity) {
    auto pidfd = open_process(identity);
    if (!pidfd) return fail(std::move(pidfd.error()));
    return Process{std::move(executor), Launched{.identity = identity, .pidfd = std::move(*pidfd)}};
}

Result<void> Process::signal(int number) {
    if (signal_) return signal_(number);
    if (::syscall(SYS_pidfd_send_signal, pidfd_.native_handle(), number, nullptr, 0) == 0) return {};
    const std::string name = "process " + std::to_string(identity_.pid);
    if (errno == ESRCH) return fail(Errc::not_found, name + " has ended");
    return fail_errno(errno, "cannot signal " + name);
}

// Whoever launched it tells how it ended; if he is gone, the pidfd still tells that it did.
void Process::hear() {
    ExitStatus status;
    if (::read(told_->native_handle(), &status, sizeof status) == static_cast<ssize_t>(sizeof status))
        status_ = status;
    else
        nobody_tells_ = true;
}

void Process::reap() {
    siginfo_t info{};
    const int done = ::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(pidfd_.native_handle()),
                              &info, WEXITED | WNOHANG);
    if (done != 0) {
        status_ = ExitStatus{};  // ECHILD: an adopted process, which somebody else reaps
        return;
    }
    if (info.si_pid == 0) return;
    const auto how = info.si_code == CLD_EXITED ? ExitStatus::How::exited : ExitStatus::How::signalled;
    status_ = ExitStatus{how, info.si_status};
}

Awaitable<ExitStatus> Process::exited() {
    while (!status_) {
        auto& ending = is_told() ? *told_ : pidfd_;
        co_await ending.async_wait(asio::posix::stream_descriptor::wait_read, asio::use_awaitable);
        if (status_) break;
        if (is_told())
            hear();
        else
            reap();
    }
    co_return *status_;
}

Awaitable<Result<ExitStatus>> Process::stop(std::chrono::milliseconds grace) {
    const auto wait = [](Process& self) -> Awaitable<Result<ExitStatus>> {
        co_return co_await self.exited();
    };
    if (!status_) {
        if (auto sent = signal(SIGTERM); !sent && sent.error().code != Errc::not_found)
            co_return fail(std::move(sent.error()));
        auto ended = co_await within(grace, wait(*this));
        if (ended || ended.error().code != Errc::timed_out) co_return ended;
        if (auto sent = signal(SIGKILL); !sent && sent.error().code != Errc::not_found)
            co_return fail(std::move(sent.error()));
    }
    co_return co_await exited();
}

}  // namespace noid::launcher
