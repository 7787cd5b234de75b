#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "wire/json.hpp"

namespace noid::wire {

inline constexpr std::uint64_t max_exec_output = 1048576;  // of one REST exec; then `truncated`
inline constexpr std::size_t max_command_words = 3072;

// How bytes stand in JSON strings: as text (what is not UTF-8 is replaced), or exact.
enum class Encoding : std::uint8_t { utf8, base64 };

// What becomes of a command whose client is gone without a word.
enum class OnDisconnect : std::uint8_t { cancel, detach };

struct WindowSize {
    std::uint16_t cols = 80;
    std::uint16_t rows = 24;
};

// POST …/exec, and the first text frame of a WebSocket exec. A request of the original's clients has
// `command`, `tty` and `env` only.
struct ExecRequest {
    std::vector<std::string> command;  // empty: the login shell, with `tty` over WebSocket
    bool tty = false;
    std::vector<std::string> env;
    std::string cwd;                          // absolute; empty: the user's home
    std::string user;                         // name or "uid[:gid]"; empty: root
    std::optional<std::string> input;         // "stdin" (with "stdin_encoding"): all of its input
    std::optional<std::uint64_t> timeout_ms;  // REST default: the server's; WebSocket default: none
    Encoding encoding = Encoding::utf8;       // of stdout and stderr in a REST answer
    bool separate = false;                    // REST: stderr apart instead of within stdout
    bool detach = false;                      // REST: start it and answer at once
    std::string label;                        // shown in the list of sessions
    // stdin arrives in 0x03 frames; else it is empty. With `detach` from whoever attaches.
    bool stream_stdin = false;
    // WebSocket only.
    bool resumable = false;  // announce the session, use acknowledgements
    OnDisconnect on_disconnect = OnDisconnect::cancel;
    std::optional<std::uint64_t> hold_ms;  // stand still that long for the client to come back
    std::optional<WindowSize> size;        // of the tty

    // Types only; check() has the rules.
    [[nodiscard]] static Result<ExecRequest> from_json(const json::value& value);
    // "command cannot be empty", the environment's rules, no NUL bytes, bounds.
    [[nodiscard]] Result<void> check() const;
};
[[nodiscard]] json::object to_json(const ExecRequest& request, json::storage_ptr storage = {});

// The answer of POST …/exec, also for a command that failed or was killed.
struct ExecResponse {
    std::string out;                        // bytes; "stdout"
    std::optional<std::string> err;         // bytes; "stderr", only with `separate`
    std::optional<std::int32_t> exit_code;  // 128 + n when killed by signal n; none when timed out
    bool timed_out = false;
    bool truncated = false;  // there was more output than max_exec_output
    std::optional<std::int32_t> signal;

    [[nodiscard]] static Result<ExecResponse> from_json(const json::value& value);
};
// Throws nothing away with base64; with utf8 malformed sequences become U+FFFD.
[[nodiscard]] json::object to_json(const ExecResponse& response, Encoding encoding,
                                   json::storage_ptr storage = {});

// The answer of POST …/exec with `detach`.
struct ExecStarted {
    std::string session;  // 16 hexadecimal digits
    std::uint32_t pid = 0;

    [[nodiscard]] static Result<ExecStarted> from_json(const json::value& value);
};
[[nodiscard]] json::object to_json(const ExecStarted& started);

// How a session ended: the last text frame of a WebSocket exec, and `ended` of a SessionInfo.
struct ExecResult {
    std::optional<std::int32_t> exit_code;  // as in ExecResponse
    bool timed_out = false;
    bool truncated = false;  // output was dropped while nobody was attached
    std::optional<std::int32_t> signal;

    [[nodiscard]] static Result<ExecResult> from_json(const json::value& value);
    bool operator==(const ExecResult&) const = default;
};
[[nodiscard]] json::object to_json(const ExecResult& result, json::storage_ptr storage = {});

// One session of GET …/sessions.
struct SessionInfo {
    std::string id;
    std::string kind;     // "exec", "file-read", ...
    std::string command;  // shortened
    std::string label;
    std::uint32_t pid = 0;
    bool tty = false;
    bool attached = false;
    std::int64_t started_unix = 0;   // the guest's clock
    std::uint64_t stdout_bytes = 0;  // produced so far
    std::uint64_t stderr_bytes = 0;
    std::uint64_t stdout_dropped = 0;
    std::uint64_t stderr_dropped = 0;
    std::optional<ExecResult> ended;

    [[nodiscard]] static Result<SessionInfo> from_json(const json::value& value);
};
[[nodiscard]] json::object to_json(const SessionInfo& session, json::storage_ptr storage = {});

}  // namespace noid::wire
