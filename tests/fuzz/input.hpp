#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "proto/frame.hpp"

namespace noid::fuzz {

// What the fuzzer chose, taken piece by piece; zeros when there is no more.
class Input {
  public:
    Input(const std::uint8_t* data, std::size_t size) noexcept
        : rest_{reinterpret_cast<const char*>(data), size} {}

    [[nodiscard]] bool empty() const noexcept { return rest_.empty(); }

    template <class Number>
    Number number() noexcept {
        Number value = 0;
        const auto bytes = take(sizeof value);
        std::memcpy(&value, bytes.data(), bytes.size());
        return value;
    }
    // At most `count` bytes.
    std::string_view take(std::size_t count) noexcept {
        const auto taken = rest_.substr(0, count);
        rest_.remove_prefix(taken.size());
        return taken;
    }
    std::string_view all() noexcept { return take(rest_.size()); }

  private:
    std::string_view rest_;
};

// Ends the program, which makes the input a finding.
inline void require(bool condition, const char* what) {
    if (condition) return;
    std::fprintf(stderr, "broken: %s\n", what);
    std::abort();
}

// A frame of the fuzzer's choice with right checksums, which blind bytes would never have: id and offset
// mostly small, payloads also of whole windows' size.
inline void append_chosen_frame(std::string& out, Input& input, std::uint32_t epoch, std::uint64_t nonce) {
    proto::FrameHeader header;
    const auto kind = input.number<std::uint8_t>();
    header.type = static_cast<proto::FrameType>(1 + kind % 11);
    header.stream = static_cast<proto::StreamId>(kind / 16 % proto::stream_count);
    const auto choice = input.number<std::uint8_t>();
    header.epoch = choice % 64 == 63 ? input.number<std::uint32_t>() : epoch;
    header.id = header.type == proto::FrameType::hello_ack ? nonce : choice % 4;
    header.offset = (choice & 4) != 0 ? input.number<std::uint64_t>() : input.number<std::uint16_t>();
    const std::size_t length = input.number<std::uint8_t>();
    if ((choice & 8) != 0)
        proto::append_frame(out, header, std::string(std::min(length * 512, proto::max_payload), 'x'));
    else
        proto::append_frame(out, header, input.take(length));
}

// Gives `bytes` to whoever reads a transport, by `space` and `received`.
template <class Peer>
bool feed(Peer& peer, std::string_view bytes) {
    while (!bytes.empty()) {
        const auto space = peer.space();
        const std::size_t count = std::min(space.size(), bytes.size());
        std::memcpy(space.data(), bytes.data(), count);
        bytes.remove_prefix(count);
        if (!peer.received(count)) return false;
    }
    return true;
}

}  // namespace noid::fuzz
