#pragma once

#include <memory>
#include <string>

#include "base/async.hpp"
#include "channel/session.hpp"
#include "proto/messages.hpp"
#include "wire/exec.hpp"

namespace noid::api {

// How a command ended, as clients read it.
struct CommandEnd {
    wire::ExecResult result;
    std::string complaint;  // for its stderr: why it could not be started (exit code 126 or 127)
};
// An Error for a session that failed for another reason than its command.
[[nodiscard]] Result<CommandEnd> command_end(const proto::SessionEnd& end);

// A transfer or a connection: either it worked or there is an Error.
[[nodiscard]] Result<void> transfer_end(const proto::SessionEnd& end);

// Sees to it that a guest session does not stay behind when its request ends early: unless told
// otherwise, it is cancelled on the VM's strand.
class SessionGuard {
  public:
    enum class Leave : std::uint8_t { cancel, release, detach, nothing };

    SessionGuard(asio::any_io_executor strand, std::shared_ptr<channel::Session> session)
        : strand_{std::move(strand)}, session_{std::move(session)} {}
    SessionGuard(const SessionGuard&) = delete;
    SessionGuard& operator=(const SessionGuard&) = delete;
    ~SessionGuard();

    void on_exit(Leave leave) noexcept { leave_ = leave; }

  private:
    asio::any_io_executor strand_;
    std::shared_ptr<channel::Session> session_;
    Leave leave_ = Leave::cancel;
};

// session->next() from any executor.
[[nodiscard]] Awaitable<Result<channel::Session::Event>> next_event(
    const asio::any_io_executor& strand, std::shared_ptr<channel::Session> session);
// session->acknowledge() and session->write(), likewise.
void acknowledge(const asio::any_io_executor& strand, const std::shared_ptr<channel::Session>& session,
                 proto::OutputStream stream, std::uint64_t offset);
[[nodiscard]] Awaitable<Result<void>> write_input(const asio::any_io_executor& strand,
                                                  std::shared_ptr<channel::Session> session,
                                                  std::string bytes);
// All of a session's input and its end. What the session does not read is lost, as with a closed pipe.
[[nodiscard]] Awaitable<void> send_input(const asio::any_io_executor& strand,
                                         std::shared_ptr<channel::Session> session, std::string_view input);
void close_input(const asio::any_io_executor& strand, const std::shared_ptr<channel::Session>& session);

// Never returns by itself: the side of a race that has nothing to wait for.
[[nodiscard]] Awaitable<void> wait_for_cancellation();

}  // namespace noid::api
