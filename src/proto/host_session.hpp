#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "base/error.hpp"
#include "proto/codec.hpp"
#include "proto/frame.hpp"
#include "proto/stream.hpp"

namespace noid::proto {

// The host's end of one session, without I/O. Everything that a guest sends is checked here; what it
// holds for the consumer is bounded by stream_window for each output. HostPeer drives it.
class HostSession {
  public:
    using Event = std::variant<Opened, OutputBytes, OutputDropped, OutputClosed, SessionEnd>;
    // How the host takes its leave of a session.
    enum class Leave : std::uint8_t {
        detach,   // it runs on
        release,  // it stands still for its `hold`
        cancel,   // it is killed
        collect,  // it has ended and everything was read
    };

    // A new session. `spec` is an encoded Control record (append_record).
    HostSession(SessionId id, std::string_view spec);
    // One that is in the guest already; the consumer has `have`.
    HostSession(SessionId id, OutputOffsets have);
    HostSession(const HostSession&) = delete;
    HostSession& operator=(const HostSession&) = delete;
    virtual ~HostSession() = default;

    [[nodiscard]] SessionId id() const noexcept { return id_; }

    // ---- for the consumer ----
    // The guest has told where the streams go on (at once for a new session).
    [[nodiscard]] bool attached() const noexcept { return !new_consumer_; }
    [[nodiscard]] std::optional<Event> next_event();
    // Why there will be no more events although there was no SessionEnd.
    [[nodiscard]] const std::optional<Error>& failure() const noexcept { return failure_; }
    void acknowledge(OutputStream stream, std::uint64_t offset);
    // As much as the window takes; gives how much.
    std::size_t write(std::string_view bytes);
    void close_input();
    [[nodiscard]] bool input_closed() const noexcept { return input_closed_; }
    [[nodiscard]] std::uint64_t input_taken() const noexcept { return input_.base(); }
    [[nodiscard]] std::uint64_t input_written() const noexcept { return input_.end(); }
    void signal(int number);
    void resize(TerminalSize size);
    // Takes leave; the guest is told as soon as it can be. left() says when that is done.
    void leave(Leave how);
    [[nodiscard]] bool leaving() const noexcept { return leave_.has_value(); }
    [[nodiscard]] bool leaving_by(Leave how) const noexcept { return leave_ == how; }
    [[nodiscard]] bool left() const noexcept { return left_; }
    // Another consumer takes over, from these offsets. Input that was written before is kept.
    void hand_over(OutputOffsets have);

    // ---- for HostPeer ----
    // Each gives `corrupt` when the guest broke the protocol.
    [[nodiscard]] Result<void> receive(StreamId stream, std::uint64_t offset, std::string_view bytes);
    [[nodiscard]] Result<void> acknowledged(StreamId stream, std::uint64_t offset);
    [[nodiscard]] Result<void> resumed(std::uint64_t token, const ResumedOffsets& offsets);
    // The guest has no such session, or the channel ends.
    void gone(Error why);
    // A new transport: what was sent may not have arrived.
    void reconnected();
    // Appends frames of what waits, about `budget` bytes. True when more waits.
    bool gather(std::string& out, std::uint32_t epoch, std::size_t budget);

  protected:
    // ---- hooks ----
    virtual void on_change() = 0;  // events, window, failure, left(): whoever waits should look
    virtual void on_output() = 0;  // gather() has something to give

  private:
    struct Output {
        ReceiveStream stream{stream_window};
        std::uint64_t delivered = 0;          // given to the consumer
        std::optional<std::uint64_t> length;  // known once the guest ended it
        bool closed = false;                  // and the consumer was told
    };
    [[nodiscard]] Output& output(OutputStream stream) noexcept {
        return stream == OutputStream::err ? err_ : out_;
    }
    [[nodiscard]] Result<void> receive_output(OutputStream stream, std::uint64_t offset,
                                              std::string_view bytes);
    [[nodiscard]] Result<void> receive_events(std::uint64_t offset, std::string_view bytes);
    [[nodiscard]] Result<void> handle(SessionEvent& event);
    void queue_bytes(OutputStream stream, std::uint64_t offset, std::string_view bytes);
    void queue_ends();
    void go_on_at(OutputStream stream, std::optional<std::uint64_t> have, std::uint64_t offset);
    void add_control(const Control& record);
    void take_leave();
    void check_left();

    SessionId id_;
    // Guest → host
    Output out_;
    Output err_;
    ReceiveStream events_{events_window};
    RecordReader<SessionEvent> event_records_;
    bool opened_ = false;
    std::optional<SessionEnd> ended_;
    bool end_queued_ = false;
    std::deque<Event> queue_;
    std::optional<Error> failure_;
    // Host → guest
    SendStream input_{stream_window};
    SendStream control_{control_window};
    bool input_closed_ = false;
    std::optional<TerminalSize> new_size_;
    std::optional<Leave> leave_;
    bool leave_queued_ = false;
    bool left_ = false;
    // What the guest knows of the session
    bool need_open_ = false;
    bool open_sent_ = false;  // it may know it
    bool known_ = false;      // it does
    bool need_resume_ = false;
    std::optional<std::uint64_t> awaited_token_;  // of the resume that it has not answered
    std::uint64_t last_token_ = 0;
    bool new_streams_ = false;                   // input and control begin where the guest says
    std::optional<OutputOffsets> new_consumer_;  // has this much
};

}  // namespace noid::proto
