#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/error.hpp"
#include "proto/messages.hpp"

// Messages ↔ bytes. Little-endian integers; strings and lists carry a 32-bit count. Decoding checks
// every count against its bound before anything is allocated, refuses NUL where the kernel would
// stop at it, and refuses trailing bytes: all that comes from a guest goes through here.
namespace noid::proto {

// ---- handshake ----
struct Hello {
    std::uint32_t protocol = protocol_version;
    std::array<std::byte, 16> nonce{};
};
struct HelloAck {
    std::array<std::byte, 16> nonce{};
    AgentInfo info;
};

// ---- continuing a session ----
struct ResumeOffsets {  // what the host has
    OutputOffsets output;
    std::uint64_t events = 0;
};
struct ResumedOffsets {  // what the agent has, and what it still keeps
    std::uint64_t input = 0;
    std::uint64_t control = 0;
    OutputOffsets output_base;  // first byte kept of each output stream
};

// ---- records of the control stream (host → agent) ----
struct InputEnd {
    std::uint64_t offset = 0;  // the input stream's length
};
struct Signal {
    std::int32_t number = 0;
};
struct Detach {};
struct Release {};
struct Attach {};  // a consumer is back after Detach or Release
struct Cancel {};
using Control = std::variant<SessionSpec, InputEnd, Signal, TerminalSize, Detach, Release, Attach, Cancel>;

// ---- records of the events stream (agent → host) ----
struct OutputEnd {
    OutputStream stream = OutputStream::out;
    std::uint64_t offset = 0;  // the stream's length
};
using SessionEvent = std::variant<Opened, OutputEnd, SessionEnd>;

// ---- requests ----
struct ListSessions {
    SessionId after;  // those with a greater id, in order
};
struct GetStats {};
struct Ping {};
struct ShutDown {};
using Request = std::variant<Ping, ListSessions, GetStats, Identity, ShutDown>;

struct Done {};
struct SessionPage {
    std::vector<SessionInfo> sessions;
    bool more = false;
};
struct Failure {
    std::uint8_t errc = 0;
    std::string message;
};
using Reply = std::variant<Done, SessionPage, GuestStats, Failure>;

inline constexpr std::size_t max_message = 4096;            // bytes of an error's text from a guest
inline constexpr std::size_t max_page = 64;                 // sessions in one SessionPage
inline constexpr std::size_t max_identity_env = 32 * 1024;  // bytes of Identity::env in all

template <class Message>
[[nodiscard]] std::string encode(const Message& message);
// `corrupt` with the reason.
template <class Message>
[[nodiscard]] Result<Message> decode(std::string_view bytes);

// Control and event records on their streams: a 32-bit length, then the encoded record.
template <class Record>
void append_record(std::string& out, const Record& record);

// Puts a stream's pieces together into records of at most max_spec_bytes.
template <class Record>
class RecordReader {
  public:
    void feed(std::string_view bytes) { buffer_.append(bytes); }
    // The next whole record, or nothing until more is fed.
    [[nodiscard]] Result<std::optional<Record>> next();
    // Bytes of the records given out so far.
    [[nodiscard]] std::uint64_t consumed() const noexcept { return consumed_; }

  private:
    std::string buffer_;
    std::uint64_t consumed_ = 0;
};

extern template class RecordReader<Control>;
extern template class RecordReader<SessionEvent>;

}  // namespace noid::proto
