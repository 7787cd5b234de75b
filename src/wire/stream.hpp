#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

#include "wire/exec.hpp"
#include "wire/server_info.hpp"

// What runs over a WebSocket: binary messages whose first byte is the channel, and JSON text
// messages. Control messages of ours have a "type"; a client that never asks for one (`resumable`,
// or an attach) never gets one, so the original's clients see only what they know.
namespace noid::wire {

enum class Channel : std::uint8_t {
    output = 1,        // stdout, a tty, a console, bytes from a TCP connection
    error_output = 2,  // stderr
    input = 3,         // stdin and its like
    resize = 4,        // 4 bytes: columns, rows, each big-endian; or JSON {"cols","rows"}
};
// Bytes of payload in one binary message that we send; we accept up to max_message.
inline constexpr std::size_t max_stream_payload = 64 * 1024;
inline constexpr std::size_t max_message = 1024 * 1024;

// The payload of a Channel::resize message, in either form.
[[nodiscard]] Result<WindowSize> parse_resize(std::string_view payload);
[[nodiscard]] std::string resize_payload(WindowSize size);

// Client to server.
struct InputEnd {};  // {"type":"stdin_eof"}: no more input (half-close of a TCP stream)
struct SendSignal {  // {"type":"signal","signal":"TERM"} (or a number)
    int number = 15;
};
struct Resize {  // {"type":"resize","cols":80,"rows":24}
    WindowSize size;
};
struct Detach {};     // {"type":"detach"}: let it run on; the server closes
struct Cancel {};     // {"type":"cancel"}: kill it
struct Acknowledge {  // {"type":"ack","stdout":N,"stderr":N}: bytes safe with the client
    std::uint64_t out = 0;
    std::uint64_t err = 0;
};
using ClientMessage = std::variant<InputEnd, SendSignal, Resize, Detach, Cancel, Acknowledge>;
[[nodiscard]] Result<ClientMessage> parse_client_message(std::string_view text);
[[nodiscard]] std::string to_text(const ClientMessage& message);

// Server to client. The offsets are where each stream goes on: output from there is what follows,
// input is to be sent from there.
struct SessionOpened {  // {"type":"session",…}: first message of a resumable session
    std::string id;
    std::uint32_t pid = 0;
    std::uint64_t out = 0;    // "stdout"
    std::uint64_t err = 0;    // "stderr"
    std::uint64_t input = 0;  // "stdin"
};
struct InputTaken {  // {"type":"stdin_ack","offset":N}: bytes that need not be kept
    std::uint64_t offset = 0;
};
struct OutputDropped {  // {"type":"dropped","stream":"stdout","bytes":N}
    Channel stream = Channel::output;
    std::uint64_t bytes = 0;
};
struct OutputEnd {  // {"type":"eof","stream":"stdout"}
    Channel stream = Channel::output;
};
// ExecResult ({"exit_code",…}) and ErrorBody ({"error",…}) are the last message of a session.
using ServerMessage =
    std::variant<SessionOpened, InputTaken, OutputDropped, OutputEnd, ExecResult, ErrorBody>;
[[nodiscard]] Result<ServerMessage> parse_server_message(std::string_view text);
[[nodiscard]] std::string to_text(const ServerMessage& message);

}  // namespace noid::wire
