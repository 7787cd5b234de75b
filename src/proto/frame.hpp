#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/error.hpp"
#include "proto/messages.hpp"

// The outermost layer of the agent protocol: bytes ↔ frames.
//
// A frame is a 32-byte little-endian header, at most max_payload bytes, and a 4-byte trailer:
//
//     0  u16 magic      2  u8 type     3  u8 stream    4  u32 payload length
//     8  u32 epoch     12  u64 id      20  u64 offset
//    28  u32 CRC-32C of bytes 0..27
//
// The epoch is chosen anew by the host for each connection. A virtio-serial port has no
// connections: after a reconnect, the tail of what was sent before may come first, or a frame may
// have been cut in the middle. The header's checksum finds the start of a frame, the epoch tells
// old from new, and the trailer (derived from the epoch) shows that a payload is whole without
// reading its bytes.
namespace noid::proto {

enum class FrameType : std::uint8_t {
    hello = 1,  // host → agent: begins a connection with a new epoch; id is a nonce; Hello
    hello_ack,  // agent → host: id is that nonce; AgentInfo
    resync,     // agent → host: lost the place in the byte stream, say hello again
    open,       // host → agent: session `id` is to begin with the first record of its control stream;
                // without effect when the agent has it
    data,       // bytes of one stream of a session at an offset
    ack,        // the receiver of a stream is done with everything below an offset
    resume,     // host → agent: attach to a session; ResumeOffsets; `offset` is an arbitrary token
    resumed,    // agent → host: ResumedOffsets, and that token
    gone,       // agent → host: there is no such session (any more); Failure
    request,    // host → agent: Request; answered by one reply with the same id
    reply,      // agent → host: Reply
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
    std::uint64_t id = 0;  // session, request or nonce
    std::uint64_t offset = 0;
};

// A frame as read. `payload` points into the reader's buffer: good until its next prepare() or feed().
struct Frame {
    FrameHeader header;
    std::string_view payload;
};

// Appends one frame to `out`. The payload must not be larger than max_payload.
void append_frame(std::string& out, const FrameHeader& header, std::string_view payload);

// Cuts a byte stream into frames. Starts out of step: everything is skipped until the frame that
// begins a connection is found (in the agent any hello, in the host the hello_ack with its own
// nonce). Memory is bounded: one frame and what was read with it.
class FrameReader {
  public:
    enum class Side : std::uint8_t { host, agent };
    explicit FrameReader(Side side) noexcept : side_{side} {}

    // Space for bytes from the transport, at least 64 KiB; commit() makes them count. All frames of
    // what was committed before must have been taken by next().
    [[nodiscard]] std::span<char> prepare();
    void commit(std::size_t count) noexcept { end_ += count; }

    // The next whole frame, or nothing until more is committed. `corrupt` when bytes came that
    // cannot be a frame of this connection; the reader is then out of step and looks for a new
    // beginning, also in what it holds already.
    [[nodiscard]] Result<std::optional<Frame>> next();

    // A new transport: forget what was read, look for a new beginning.
    void restart() noexcept;
    // The same transport: skip what is left of the connection before.
    void seek() noexcept { in_step_ = false; }
    // The host's hello carried this nonce and epoch; its answer is what to look for.
    void expect(std::uint64_t nonce) noexcept { nonce_ = nonce; }

  private:
    [[nodiscard]] std::string_view unread() const noexcept { return {buffer_.get() + begin_, end_ - begin_}; }
    [[nodiscard]] std::optional<FrameHeader> header_here() const noexcept;
    [[nodiscard]] bool opens(const FrameHeader& header) const noexcept;
    bool skip_to_opening();
    std::unexpected<Error> lose_step(const char* why);

    Side side_;
    std::unique_ptr<char[]> buffer_;
    std::size_t begin_ = 0;
    std::size_t end_ = 0;
    std::uint64_t nonce_ = 0;
    std::uint32_t epoch_ = 0;
    bool in_step_ = false;
};

}  // namespace noid::proto
