#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.hpp"
#include "proto/messages.hpp"

// The outermost layer of the agent protocol: bytes ↔ frames.
//
// A frame is a 32-byte little-endian header, at most max_payload bytes, and a 4-byte trailer:
//
//     0  u16 magic      2  u8 type     3  u8 stream    4  u32 payload length
//     8  u32 epoch     12  u64 session or request id   20  u64 offset
//    28  u32 CRC-32C of bytes 0..27
//
// The epoch is chosen anew by the host for each connection. A virtio-serial port has no
// connections: after a reconnect, the tail of what was sent before may come first, or a frame may
// have been cut in the middle. The header's checksum finds the start of a frame, the epoch tells
// old from new, and the trailer (derived from the epoch) shows that a payload is whole without
// reading its bytes.
namespace noid::proto {

enum class FrameType : std::uint8_t {
    hello = 1,  // host → agent: protocol version, nonce; begins a connection with a new epoch
    hello_ack,  // agent → host: the nonce, AgentInfo
    open,       // host → agent: begins a session (again: no effect)
    data,       // bytes of one stream of a session at an offset
    ack,        // the receiver of a stream is done with all below an offset
    resume,     // host → agent: ResumeOffsets; continue a session after a reconnect, or attach
    resumed,    // agent → host: ResumedOffsets
    gone,       // agent → host: there is no such session
    request,    // host → agent: Request; answered by one reply with the same id
    reply,      // agent → host
};

// The streams of a session. Each is reliable and ordered on its own.
enum class StreamId : std::uint8_t {
    input = 0,    // host → agent: stdin, file contents, TCP bytes
    out = 1,      // agent → host
    err = 2,      // agent → host
    control = 3,  // host → agent: records, see Control in codec.hpp
    events = 4,   // agent → host: records, see SessionEvent in codec.hpp
};
inline constexpr std::size_t stream_count = 5;

inline constexpr std::size_t header_size = 32;
inline constexpr std::size_t trailer_size = 4;
inline constexpr std::size_t max_frame = header_size + max_payload + trailer_size;

struct FrameHeader {
    FrameType type = FrameType::data;
    StreamId stream = StreamId::input;
    std::uint32_t length = 0;
    std::uint32_t epoch = 0;
    std::uint64_t id = 0;  // session or request
    std::uint64_t offset = 0;
};

// A frame as read. `payload` points into the reader's buffer: good until its next call.
struct Frame {
    FrameHeader header;
    std::string_view payload;
};

// Appends one frame to `out`. The payload must not be larger than max_payload.
void append_frame(std::string& out, const FrameHeader& header, std::string_view payload);

// Cuts a byte stream into frames. Starts out of step: everything is skipped until a header of the
// type that begins a connection (`opening`: hello in the agent, hello_ack in the host) is found.
// Bounded: keeps at most one frame and what was read with it.
class FrameReader {
  public:
    explicit FrameReader(FrameType opening) : opening_{opening} {}

    // Adds bytes from the transport.
    void feed(std::string_view bytes);

    // The next whole frame, or nothing until more is fed. `corrupt` when bytes came that cannot be
    // a frame of this connection; the reader is then out of step and looks for a new beginning.
    [[nodiscard]] Result<std::optional<Frame>> next();

    // Frames other than the opening one must carry this epoch.
    void expect_epoch(std::uint32_t epoch) noexcept { epoch_ = epoch; }
    // A new transport: forget what was read, look for a new beginning.
    void restart() noexcept;
    [[nodiscard]] bool in_step() const noexcept { return in_step_; }

  private:
    [[nodiscard]] std::optional<FrameHeader> header_here() const noexcept;
    bool skip_to_opening();
    [[nodiscard]] std::string_view unread() const noexcept {
        return std::string_view{buffer_}.substr(position_);
    }
    std::unexpected<Error> lose_step(const char* why);

    FrameType opening_;
    std::string buffer_;
    std::size_t position_ = 0;
    std::uint32_t epoch_ = 0;
    bool in_step_ = false;
};

}  // namespace noid::proto
