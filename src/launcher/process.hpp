#pragma once

#include <boost/asio/posix/stream_descriptor.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/async.hpp"
#include "base/error.hpp"
#include "base/process_identity.hpp"
#include "launcher/launcher.hpp"

namespace noid::launcher {

struct ExitStatus {
    // unknown: it was another process's child, so only that it ended can be known.
    enum class How : std::uint8_t { exited, signalled, unknown } how = How::unknown;
    int value = 0;  // exit code, or signal number
    auto operator<=>(const ExitStatus&) const = default;
};
// "exited with status 1", "killed by signal 9 (Killed)", "ended".
[[nodiscard]] std::string describe(const ExitStatus& status);

// A running process, held by its pidfd: no signal ever reaches another process that got its pid. Used
// on one strand. Destroying it neither ends the process nor waits; a child that ends after that stays
// a zombie until this program ends.
class Process {
  public:
    Process(asio::any_io_executor executor, Launched launched);
    // A process that is not (any longer) our child. not_found if it is gone.
    [[nodiscard]] static Result<Process> adopt(asio::any_io_executor executor,
                                               const ProcessIdentity& identity);

    [[nodiscard]] const ProcessIdentity& identity() const noexcept { return identity_; }
    [[nodiscard]] bool has_exited() const noexcept { return status_.has_value(); }

    // not_found when it has ended.
    [[nodiscard]] Result<void> signal(int number);
    // Waits for the end and reaps a child. Any number of waiters; all get the same answer. Cancelled, it
    // may be called again.
    Awaitable<ExitStatus> exited();
    // SIGTERM, `grace`, SIGKILL; returns when the process has ended. Cancelled: it may still run.
    Awaitable<Result<ExitStatus>> stop(std::chrono::milliseconds grace);

  private:
    [[nodiscard]] bool is_told() const noexcept { return told_ && !nobody_tells_; }
    void reap();
    void hear();

    ProcessIdentity identity_;
    asio::posix::stream_descriptor pidfd_;
    std::optional<asio::posix::stream_descriptor> told_;  // Launched::exit_status
    std::function<Result<void>(int)> signal_;             // Launched::signal
    std::shared_ptr<const void> held_;
    bool nobody_tells_ = false;  // whoever launched it is gone
    std::optional<ExitStatus> status_;
};

}  // namespace noid::launcher
