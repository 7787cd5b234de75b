#pragma once

#include <array>
#include <chrono>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

// What the host and the agent in a guest say to each other, as plain values. How they are put into
// bytes is in frame.hpp and codec.hpp; how streams survive a broken transport in stream.hpp.
namespace noid::proto {

inline constexpr std::uint32_t protocol_version = 1;
inline constexpr std::uint32_t vsock_port = 1024;              // agent listens here in a guest with vsock
inline constexpr const char* virtio_port_name = "noid.agent";  // the virtio-serial port's name
inline constexpr std::size_t max_payload = 64 * 1024;          // of one frame
inline constexpr std::uint64_t stream_window = 1024 * 1024;    // unacknowledged bytes per stream
inline constexpr std::uint64_t detached_keep = 1024 * 1024;    // newest output kept per detached stream
inline constexpr std::size_t max_sessions = 256;               // per VM
inline constexpr std::size_t max_arguments = 4096;             // argv + env entries
inline constexpr std::size_t max_spec_bytes = 1024 * 1024;     // an encoded SessionSpec

// Chosen by the host, random, never reused. Spelt as 16 lower-case hexadecimal digits outside.
struct SessionId {
    std::uint64_t value = 0;
    auto operator<=>(const SessionId&) const = default;
};
[[nodiscard]] std::string to_string(SessionId id);
[[nodiscard]] std::optional<SessionId> parse_session_id(std::string_view text) noexcept;

enum class OutputStream : std::uint8_t { out = 1, err = 2 };

// How many bytes of each output stream a consumer has already.
struct OutputOffsets {
    std::uint64_t out = 0;
    std::uint64_t err = 0;
};

struct TerminalSize {
    std::uint16_t columns = 80;
    std::uint16_t rows = 24;
};

// What happens in the guest to a session whose consumer is gone without a word.
enum class Disconnect : std::uint8_t {
    cancel,  // after `hold`, kill it
    detach,  // after `hold`, let it run on and keep its newest output
};

// A command. With `tty` it gets a real PTY and its error output is part of `out`.
struct Exec {
    std::vector<std::string> argv;  // empty: the user's login shell
    std::vector<std::string> env;   // "K=V", added to the guest's defaults
    std::string cwd;                // empty: the user's home, else absolute
    std::string user;               // empty: root; a name or "uid[:gid]"
    std::optional<TerminalSize> tty;
    bool merge_error_output = false;          // stderr goes into `out`, in order (no tty)
    bool input = true;                        // false: stdin is /dev/null
    std::chrono::milliseconds time_limit{0};  // 0: none; killed with its group when it passes
};
// A regular file's contents flow into `out`; Opened carries its FileStat.
struct FileRead {
    std::string path;
    std::uint64_t offset = 0;
};
// Input becomes the file's contents. Written under a temporary name beside it and renamed at the
// input's end, so the file is whole or not there.
struct FileWrite {
    std::string path;
    std::uint32_t mode = 0644;
    std::string user;  // owner; empty: root
    bool make_parents = false;
};
// A directory (or file) as a POSIX pax tar stream in `out`.
struct TarRead {
    std::string path;
};
// A tar stream as input, unpacked below `path`; entries cannot leave it.
struct TarWrite {
    std::string path;
    std::string user;
};
// A TCP connection made inside the guest: input and `out` are its two directions.
struct TcpConnect {
    std::string host = "127.0.0.1";
    std::uint16_t port = 0;
};
using Operation = std::variant<Exec, FileRead, FileWrite, TarRead, TarWrite, TcpConnect>;

struct SessionSpec {
    Operation operation;
    Disconnect on_disconnect = Disconnect::cancel;
    std::chrono::milliseconds hold{30'000};  // stand still this long for a consumer to come back
    std::string label;                       // for `ps`; at most 128 bytes
};

struct FileStat {
    enum class Kind : std::uint8_t { file, directory, other } kind = Kind::file;
    std::uint64_t size = 0;
    std::uint32_t mode = 0;
    std::int64_t modified = 0;  // seconds since the epoch
};

// The agent's first word on a session.
struct Opened {
    std::uint32_t pid = 0;  // 0: not a process
    std::optional<FileStat> file;
};

// How a session ended.
struct SessionEnd {
    enum class How : std::uint8_t {
        exited,     // `status` is the exit code (0 for transfers that worked)
        signalled,  // `status` is the signal's number
        timed_out,  // its time limit passed and it was killed
        cancelled,
        failed,  // it could not be started or carried on; `errc`, `message`
    } how = How::exited;
    std::int32_t status = 0;
    std::uint8_t errc = 0;  // an Errc, for `failed`
    std::string message;    // bounded, from a hostile guest: escape before a terminal
};

// What a consumer of a session sees besides Opened and SessionEnd; see channel/session.hpp.
struct OutputBytes {
    OutputStream stream = OutputStream::out;
    std::uint64_t offset = 0;
    std::string bytes;
};
struct OutputDropped {
    OutputStream stream = OutputStream::out;
    std::uint64_t count = 0;
};
struct OutputClosed {
    OutputStream stream = OutputStream::out;
};

struct SessionInfo {
    SessionId id;
    std::string kind;     // "exec", "file-read", ...
    std::string command;  // argv joined, shortened to 256 bytes
    std::string label;
    std::uint32_t pid = 0;
    bool tty = false;
    bool attached = false;
    std::int64_t started = 0;  // guest clock, seconds since the epoch
    OutputOffsets produced;    // bytes so far
    OutputOffsets dropped;
    std::optional<SessionEnd> ended;  // ended, not yet collected
};

struct AgentInfo {
    std::string version;
    std::uint32_t protocol = 0;
    std::string boot_id;
    std::string kernel;            // uname -r
    std::string os;                // PRETTY_NAME of os-release
    std::uint64_t generation = 0;  // counts renew_identity calls in this memory image
};

// The guest's network, the same inside every VM.
struct GuestNetwork {
    std::string mac;
    std::string address;  // "172.16.0.2/30"
    std::string gateway;
    std::vector<std::string> nameservers;
    std::uint32_t mtu = 1500;
};

// What makes a restored or cloned guest a machine of its own.
struct Identity {
    std::array<std::byte, 64> entropy{};  // credited and forces a reseed (RNDADDENTROPY, RNDRESEEDCRNG)
    std::int64_t clock_ns = 0;            // host's CLOCK_REALTIME when sent; 0: leave the clock
    std::string hostname;                 // empty: leave
    std::string machine_id;               // 32 hex digits; empty: leave
    bool new_boot_id = false;
    bool renew_ssh_host_keys = false;
    bool end_sessions = false;  // a clone must not carry on its parent's sessions
    std::optional<GuestNetwork> network;
    std::vector<std::string> env;  // environment of the VM for every session, "K=V"
};

struct GuestStats {
    std::uint64_t memory_total = 0;  // bytes
    std::uint64_t memory_available = 0;
    std::uint64_t disk_total = 0;  // of the root file system, bytes
    std::uint64_t disk_free = 0;
    std::uint64_t cpu_busy_ticks = 0;
    std::uint64_t cpu_total_ticks = 0;
    double load_1 = 0;
    std::uint64_t uptime_s = 0;
    std::uint32_t processes = 0;
};

}  // namespace noid::proto
