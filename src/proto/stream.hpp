#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/error.hpp"
#include "proto/byte_ring.hpp"

// One direction of one session, without any I/O: what makes bytes arrive once and in order although
// the transport below may break at any byte.
namespace noid::proto {

// The sender's half: keeps what was not acknowledged and knows what is on its way.
//
//     base ≤ sent ≤ end      [base, sent) on its way, [sent, end) waiting
//
// It never holds more than `window` bytes, so whatever it holds may be sent.
class SendStream {
  public:
    // `window` is a power of two.
    explicit SendStream(std::size_t window) noexcept : held_{window} {}

    // Bytes that may be added before the window is full.
    [[nodiscard]] std::size_t room() const noexcept { return held_.room(); }
    // Takes as much as there is room for; gives how much.
    std::size_t append(std::string_view bytes) { return held_.append(bytes); }
    // The same in place: read into the space, then say how much it was.
    [[nodiscard]] std::span<char> prepare(std::size_t wanted) { return held_.prepare(wanted); }
    void commit(std::size_t count) noexcept { held_.commit(count); }

    // What to send next, at most `limit` bytes; empty when nothing waits. Then call advance().
    [[nodiscard]] std::string_view pending(std::size_t limit) const noexcept;
    void advance(std::size_t count) noexcept { sent_ += count; }

    // The receiver is done with everything below `offset`. corrupt when that was never sent.
    [[nodiscard]] Result<void> acknowledge(std::uint64_t offset);
    // Sending goes on at `offset`, which the receiver has reached. conflict when that is not held.
    [[nodiscard]] Result<void> rewind(std::uint64_t offset);
    // Forgets the oldest bytes until there is room for `count`; they are lost to the receiver.
    void make_room(std::size_t count);
    // For a stream that holds nothing yet and whose receiver has reached `offset` already.
    void start_at(std::uint64_t offset) noexcept { base_ = sent_ = offset; }

    [[nodiscard]] std::uint64_t base() const noexcept { return base_; }
    [[nodiscard]] std::uint64_t sent() const noexcept { return sent_; }
    [[nodiscard]] std::uint64_t end() const noexcept { return base_ + held_.size(); }
    [[nodiscard]] bool drained() const noexcept { return held_.size() == 0; }

  private:
    void discard(std::uint64_t count) noexcept;

    ByteRing held_;
    std::uint64_t base_ = 0;
    std::uint64_t sent_ = 0;
};

// The receiver's half: takes each byte once, and knows how far its consumer and its sender are.
//
//     announced ≤ consumed ≤ received ≤ consumed + window
class ReceiveStream {
  public:
    explicit ReceiveStream(std::uint64_t window) noexcept : window_{window} {}

    // The part of `bytes` that is new; empty for what was seen before. corrupt for a gap, and for
    // a sender that ignores the window.
    [[nodiscard]] Result<std::string_view> accept(std::uint64_t offset, std::string_view bytes);
    // The consumer is done with everything below `offset`.
    void consume(std::uint64_t offset) noexcept;
    // There is an acknowledgement to send, and: the sender may soon stand still without it.
    [[nodiscard]] bool due() const noexcept { return repeat_ || consumed_ != announced_; }
    [[nodiscard]] bool urgent() const noexcept { return consumed_ - announced_ >= window_ / 4; }
    // What to acknowledge; from here on the sender counts as told.
    [[nodiscard]] std::uint64_t announce() noexcept {
        repeat_ = false;
        return announced_ = consumed_;
    }
    // What was announced last may have been lost with a transport.
    void announce_again() noexcept { repeat_ = true; }
    // The sender goes on at `offset`; what is before it counts as consumed.
    void start_at(std::uint64_t offset) noexcept { received_ = consumed_ = announced_ = offset; }

    [[nodiscard]] std::uint64_t received() const noexcept { return received_; }
    [[nodiscard]] std::uint64_t consumed() const noexcept { return consumed_; }

  private:
    std::uint64_t window_;
    std::uint64_t received_ = 0;
    std::uint64_t consumed_ = 0;
    std::uint64_t announced_ = 0;
    bool repeat_ = false;
};

}  // namespace noid::proto
