#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/error.hpp"
#include "proto/codec.hpp"
#include "proto/frame.hpp"
#include "proto/stream.hpp"

namespace noid::proto {

// The guest's end of one session, without I/O: its streams, and who listens. It owns the output
// until the host acknowledged it, so it survives any number of transports. What the session does is
// in the derived class, which is told by the hooks. GuestPeer drives it.
class GuestSession {
  public:
    enum class Consumer : std::uint8_t {
        attached,  // a host reads
        holding,   // nobody reads; output stops at the window
        detached,  // nobody reads; the newest output is kept
    };

    explicit GuestSession(SessionId id) noexcept : id_{id} {}
    GuestSession(const GuestSession&) = delete;
    GuestSession& operator=(const GuestSession&) = delete;
    virtual ~GuestSession() = default;

    [[nodiscard]] SessionId id() const noexcept { return id_; }
    [[nodiscard]] Consumer consumer() const noexcept { return consumer_; }
    [[nodiscard]] bool ended() const noexcept { return ended_.has_value(); }
    [[nodiscard]] const std::optional<SessionEnd>& end_result() const noexcept { return ended_; }
    // Ended, and the host has everything: the agent may forget it.
    [[nodiscard]] bool collected() const noexcept { return ended_ && events_.drained(); }
    [[nodiscard]] OutputOffsets produced() const noexcept { return {out_.end(), err_.end()}; }
    [[nodiscard]] OutputOffsets dropped() const noexcept { return dropped_; }
    // Bytes of memory that its output takes.
    [[nodiscard]] std::uint64_t held() const noexcept {
        return out_.end() - out_.base() + err_.end() - err_.base();
    }

    // ---- for GuestPeer: what the host says ----
    [[nodiscard]] Result<void> receive(StreamId stream, std::uint64_t offset, std::string_view bytes);
    [[nodiscard]] Result<void> acknowledged(StreamId stream, std::uint64_t offset);
    // conflict when the host has what this session never sent: the guest was set back in time.
    [[nodiscard]] Result<ResumedOffsets> resume(const ResumeOffsets& has);
    // Appends frames of what waits, about `budget` bytes. True when more waits.
    bool gather(std::string& out, std::uint32_t epoch, std::size_t budget);
    // Changes who listens and calls on_consumer().
    void become(Consumer consumer);

    // ---- for what the session does ----
    void opened(Opened facts);
    // Space for output of at most `wanted` bytes, contiguous; empty while the host has to read
    // first. output_written() makes it count.
    [[nodiscard]] std::span<char> output_space(OutputStream stream, std::size_t wanted) {
        return output(stream).prepare(wanted);
    }
    void output_written(OutputStream stream, std::size_t count);
    // As much as there is space for; gives how much. A detached session takes everything (of at most
    // stream_window bytes) and drops its oldest output for it.
    std::size_t write_output(OutputStream stream, std::string_view bytes);
    void end_output(OutputStream stream);
    // Ends both outputs and the session. Only the first call counts.
    void end(SessionEnd how);

    // Input that waits, as far as it is contiguous; then say how much of it was taken.
    [[nodiscard]] std::string_view waiting_input() const noexcept {
        return input_bytes_.view(0, stream_window);
    }
    void input_taken(std::size_t count);
    // All input was received and taken.
    [[nodiscard]] bool input_finished() const noexcept {
        return input_length_ && *input_length_ == input_.consumed();
    }

  protected:
    // ---- hooks. They may end the session, but must not destroy it ----
    virtual void on_spec(SessionSpec spec) = 0;  // first of all, once
    virtual void on_input() = 0;                 // waiting_input() or input_finished() changed
    virtual void on_output_room(OutputStream stream) = 0;
    virtual void on_signal(int number) = 0;
    virtual void on_resize(TerminalSize size) = 0;
    virtual void on_cancel() = 0;
    virtual void on_consumer() = 0;  // consumer() changed
    virtual void on_output() = 0;    // gather() has something to give

  private:
    [[nodiscard]] SendStream& output(OutputStream stream) noexcept {
        return stream == OutputStream::err ? err_ : out_;
    }
    [[nodiscard]] Result<void> receive_control(std::uint64_t offset, std::string_view bytes);
    [[nodiscard]] Result<void> handle(Control& record);
    void emit(const SessionEvent& event);

    SessionId id_;
    ReceiveStream input_{stream_window};
    ByteRing input_bytes_{stream_window};
    std::optional<std::uint64_t> input_length_;
    ReceiveStream control_{control_window};
    RecordReader<Control> control_records_;
    bool has_spec_ = false;
    SendStream out_{stream_window};
    SendStream err_{stream_window};
    SendStream events_{events_window};
    std::array<bool, 2> output_ended_{};
    std::optional<SessionEnd> ended_;
    OutputOffsets dropped_;
    Consumer consumer_ = Consumer::attached;
};

}  // namespace noid::proto
