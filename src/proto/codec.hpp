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

// ---- handshake: Hello is answered by AgentInfo ----
struct Hello {
    std::uint32_t protocol = protocol_version;
};

// ---- attaching to a session ----
struct ResumeOffsets {  // what the host has received
    OutputOffsets output;
    std::uint64_t events = 0;
};
struct ResumedOffsets {  // where each stream goes on
    std::uint64_t input = 0;
    std::uint64_t control = 0;
    OutputOffsets output;  // more than the host has: what lies between is lost
};

// ---- records of the control stream (host → agent); the first is a SessionSpec, no other is ----
struct InputEnd {
    std::uint64_t offset = 0;  // the input stream's length
};
struct Signal {
    std::int32_t number = 0;
};
struct Detach {};   // run on, keep the newest output
struct Release {};  // stand still for `hold`, then do what the spec's Disconnect says
struct Attach {};   // a consumer took over after Detach or Release
struct Cancel {};   // kill, forget, and say gone
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

inline constexpr std::size_t max_message = 4096;  // bytes of an error's text from a guest
inline constexpr std::size_t max_page = 64;       // sessions in one SessionPage
inline constexpr std::size_t max_event = 8192;    // bytes of an encoded SessionEvent
inline constexpr std::size_t control_window = 2 * max_spec_bytes;
inline constexpr std::size_t events_window = 16 * 1024;  // all events of a session fit

template <class Message>
[[nodiscard]] std::string encode(const Message& message);
// `corrupt` with the reason.
template <class Message>
[[nodiscard]] Result<Message> decode(std::string_view bytes);

// Control and event records on their streams: a 32-bit length, then the encoded record.
template <class Record>
void append_record(std::string& out, const Record& record);

// Puts a stream's pieces together into records. Bounded: `corrupt` for a record longer than
// max_spec_bytes (Control) or max_event (SessionEvent).
template <class Record>
class RecordReader {
  public:
    void feed(std::string_view bytes) { buffer_.append(bytes); }
    // The next whole record, or nothing until more is fed.
    [[nodiscard]] Result<std::optional<Record>> next();

  private:
    std::string buffer_;
};

extern template class RecordReader<Control>;
extern template class RecordReader<SessionEvent>;

}  // namespace noid::proto
