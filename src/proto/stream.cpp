#include "proto/stream.hpp"

#include <algorithm>

namespace noid::proto {

std::string_view SendStream::pending(std::size_t limit) const noexcept {
    const std::size_t from = front_ + static_cast<std::size_t>(sent_ - base_);
    return std::string_view{buffer_}.substr(from, limit);
}

void SendStream::discard(std::uint64_t count) {
    front_ += static_cast<std::size_t>(count);
    base_ += count;
    sent_ = std::max(sent_, base_);
    // Moving the rest to the front only when it is the smaller part keeps the cost linear.
    if (front_ >= buffer_.size() - front_) {
        buffer_.erase(0, front_);
        front_ = 0;
    }
}

Result<void> SendStream::acknowledge(std::uint64_t offset) {
    if (offset > sent_) return fail(Errc::corrupt, "acknowledgement of bytes that were not sent");
    if (offset > base_) discard(offset - base_);
    return {};
}

Result<void> SendStream::rewind(std::uint64_t offset) {
    if (offset > end()) return fail(Errc::corrupt, "continuation beyond the end of a stream");
    if (offset > base_) discard(offset - base_);
    sent_ = base_;
    return {};
}

void SendStream::drop_oldest(std::uint64_t keep) {
    const std::uint64_t held = end() - base_;
    if (held > keep) discard(held - keep);
}

Result<std::string_view> ReceiveStream::accept(std::uint64_t offset, std::string_view bytes) {
    if (offset > received_) return fail(Errc::corrupt, "a gap in a stream");
    const std::uint64_t known = received_ - offset;
    if (known >= bytes.size()) return std::string_view{};
    const std::string_view fresh = bytes.substr(static_cast<std::size_t>(known));
    if (received_ - consumed_ + fresh.size() > window_)
        return fail(Errc::corrupt, "more bytes than the window allows");
    received_ += fresh.size();
    return fresh;
}

bool ReceiveStream::consume(std::uint64_t offset) noexcept {
    consumed_ = std::clamp(offset, consumed_, received_);
    const std::uint64_t news = consumed_ - acknowledged_;
    return news > 0 && (news >= window_ / 4 || consumed_ == received_);
}

void ReceiveStream::start_at(std::uint64_t offset) noexcept {
    received_ = offset;
    consumed_ = offset;
    acknowledged_ = offset;
}

}  // namespace noid::proto
