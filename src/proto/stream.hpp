#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.hpp"

// One direction of one session, without any I/O: what makes bytes arrive once and in order although
// the transport below may break at any byte.
namespace noid::proto {

// The sender's half: keeps what was not acknowledged and knows what is on its way.
//
//     base_ ≤ sent_ ≤ end()      [base_, sent_) on its way, [sent_, end()) waiting
class SendStream {
  public:
    explicit SendStream(std::uint64_t window) : window_{window} {}

    // Bytes that may be appended before the window is full.
    [[nodiscard]] std::uint64_t room() const noexcept {
        const std::uint64_t held = end() - base_;
        return held >= window_ ? 0 : window_ - held;
    }
    // Takes the bytes, whatever room() says: only detached streams go beyond it (see drop_oldest).
    void append(std::string_view bytes) { buffer_.append(bytes); }

    // What to send next, at most `limit` bytes; empty when nothing waits. Then call sent().
    [[nodiscard]] std::string_view pending(std::size_t limit) const noexcept;
    [[nodiscard]] std::uint64_t pending_offset() const noexcept { return sent_; }
    void sent(std::size_t count) noexcept { sent_ += count; }

    // The receiver is done with everything below `offset`. corrupt when that was never sent.
    [[nodiscard]] Result<void> acknowledge(std::uint64_t offset);
    // The receiver says, after a reconnect, that it has everything below `offset`: sending goes on
    // there. An offset that is not kept any more begins at base(). corrupt beyond the end.
    [[nodiscard]] Result<void> rewind(std::uint64_t offset);
    // Keeps only the newest `keep` bytes; those before are lost.
    void drop_oldest(std::uint64_t keep);

    [[nodiscard]] std::uint64_t base() const noexcept { return base_; }
    [[nodiscard]] std::uint64_t end() const noexcept { return base_ + (buffer_.size() - front_); }
    [[nodiscard]] bool drained() const noexcept { return base_ == end(); }

  private:
    void discard(std::uint64_t count);

    std::uint64_t window_;
    std::string buffer_;  // [front_, size) are the bytes from base_ on
    std::size_t front_ = 0;
    std::uint64_t base_ = 0;
    std::uint64_t sent_ = 0;
};

// The receiver's half: takes each byte once and says how far the consumer is.
class ReceiveStream {
  public:
    explicit ReceiveStream(std::uint64_t window) : window_{window} {}

    // The part of `bytes` that is new; empty for what was seen before. corrupt for a gap, and for
    // a sender that ignores the window.
    [[nodiscard]] Result<std::string_view> accept(std::uint64_t offset, std::string_view bytes);
    // The consumer is done with everything below `offset`; gives true when the sender should be
    // told now (a quarter of the window was freed, or everything received was consumed).
    [[nodiscard]] bool consume(std::uint64_t offset) noexcept;
    void acknowledged() noexcept { acknowledged_ = consumed_; }
    // The sender begins at `offset` (bytes before it are lost to this receiver).
    void start_at(std::uint64_t offset) noexcept;

    [[nodiscard]] std::uint64_t received() const noexcept { return received_; }
    [[nodiscard]] std::uint64_t consumed() const noexcept { return consumed_; }

  private:
    std::uint64_t window_;
    std::uint64_t received_ = 0;
    std::uint64_t consumed_ = 0;
    std::uint64_t acknowledged_ = 0;
};

}  // namespace noid::proto
