#pragma once

#include <memory>
#include <optional>
#include <string>

#include "channel/guest_connection.hpp"
#include "channel/session.hpp"
#include "channel/wakeup.hpp"
#include "proto/host_session.hpp"

namespace noid::channel {

// What the channel keeps of a session, whoever its consumer is.
class SessionState final : public proto::HostSession {
  public:
    SessionState(std::shared_ptr<GuestConnection> connection, proto::SessionId id, std::string_view spec);
    SessionState(std::shared_ptr<GuestConnection> connection, proto::SessionId id, proto::OutputOffsets have);

    // A number for the consumer that takes over; those before are out.
    [[nodiscard]] std::uint64_t new_consumer() {
        changed.notify();
        return ++consumer_;
    }
    [[nodiscard]] std::uint64_t consumer() const noexcept { return consumer_; }

    Wakeup changed;

  private:
    void on_change() override { changed.notify(); }
    void on_output() override;

    std::weak_ptr<GuestConnection> connection_;
    std::uint64_t consumer_ = 0;
};

// One consumer's hold on a session.
class GuestSession final : public Session {
  public:
    GuestSession(std::shared_ptr<GuestConnection> connection, std::shared_ptr<SessionState> state);
    ~GuestSession() override;

    [[nodiscard]] proto::SessionId id() const override { return state_->id(); }
    Awaitable<Result<Event>> next() override;
    void acknowledge(proto::OutputStream stream, std::uint64_t offset) override;
    Awaitable<Result<void>> write(std::string bytes) override;
    void close_input() override;
    [[nodiscard]] std::uint64_t input_taken() const override { return state_->input_taken(); }
    [[nodiscard]] std::uint64_t input_written() const override { return state_->input_written(); }
    Awaitable<Result<std::uint64_t>> input_taken_beyond(std::uint64_t than) override;
    void signal(int number) override;
    void resize(proto::TerminalSize size) override;
    void detach() override { leave(proto::HostSession::Leave::detach); }
    void release() override { leave(proto::HostSession::Leave::release); }
    void cancel() override { leave(proto::HostSession::Leave::cancel); }

    // Until the guest has said where an attached session goes on.
    Awaitable<Result<void>> attached();

  private:
    // Why nothing more can be done with it, if so.
    [[nodiscard]] std::optional<Error> obstacle() const;
    void leave(proto::HostSession::Leave how);

    std::shared_ptr<GuestConnection> connection_;
    std::shared_ptr<SessionState> state_;
    std::uint64_t consumer_;
    bool ended_ = false;  // the last event was given out
    bool left_ = false;
};

}  // namespace noid::channel
