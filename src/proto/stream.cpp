#include "proto/stream.hpp"

#include <algorithm>

namespace noid::proto {

std::string_view SendStream::pending(std::size_t limit) const noexcept {
    return held_.view(static_cast<std::size_t>(sent_ - base_), limit);
}

void SendStream::discard(std::uint64_t count) noexcept {
    held_.discard(static_cast<std::size_t>(count));
    base_ += count;
    sent_ = std::max(sent_, base_);
}

Result<void> SendStream::acknowledge(std::uint64_t offset) {
    if (offset > sent_) return fail(Errc::corrupt, "acknowledgement of bytes that were not sent");
    if (offset > base_) discard(offset - base_);
    return {};
}

Result<void> SendStream::rewind(std::uint64_t offset) {
    if (offset < base_ || offset > end())
        return fail(Errc::conflict, "the two ends of a stream do not fit together any more");
    sent_ = offset;
    return {};
}

void SendStream::make_room(std::size_t count) {
    if (room() < count) discard(std::min(count - room(), held_.size()));
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

void ReceiveStream::consume(std::uint64_t offset) noexcept {
    consumed_ = std::clamp(offset, consumed_, received_);
}

}  // namespace noid::proto
