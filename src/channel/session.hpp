#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/async.hpp"
#include "base/error.hpp"
#include "proto/messages.hpp"

namespace noid::channel {

// The host's end of one session with a guest: a command, a shell, a file transfer, a forwarded
// connection. It outlives the transport: when the byte stream to the agent breaks, the session
// stands still and goes on at the same offset after the reconnect; no byte is lost or doubled.
//
// Lives on the VM's strand; every member is called there. Get one from AgentChannel::open or
// attach. Dropping the last reference (on any thread) leaves the session to its `Disconnect` policy in
// the guest; one that gave its Ended event is forgotten there. Who may still want to read an ended
// session again, because its client may not have got everything, calls release().
class Session {
  public:
    Session() = default;
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;
    virtual ~Session() = default;

    [[nodiscard]] virtual proto::SessionId id() const = 0;

    // Bytes the guest sent: stream, offset (from the stream's first byte), bytes.
    using Output = proto::OutputBytes;
    // A detached session produced more than was kept: `count` bytes before the next offset are gone.
    using Dropped = proto::OutputDropped;
    // Facts about what is opened (FileStat for a file read), before its first byte.
    using Opened = proto::Opened;
    // The stream gives no more bytes.
    using OutputEnd = proto::OutputClosed;
    // The last event, after all output was delivered.
    using Ended = proto::SessionEnd;
    using Event = std::variant<Opened, Output, Dropped, OutputEnd, Ended>;

    // The next event. One caller at a time. After Ended: conflict. unavailable when the VM is gone
    // for good (destroyed, dead), cancelled when another consumer took the session or after detach(),
    // release() or cancel(), not_found when the guest has lost it (it rebooted, or `hold` passed while
    // there was no connection). A broken transport is not an event: it is waited through.
    virtual Awaitable<Result<Event>> next() = 0;

    // Says that output below `offset` is safe with the consumer; the guest forgets it and may send
    // as much more. Without acknowledgements the stream stands still after proto::stream_window
    // bytes, this stream alone.
    virtual void acknowledge(proto::OutputStream stream, std::uint64_t offset) = 0;

    // Input for the session (stdin, file contents, TCP bytes). Returns when it is in the window,
    // which is when the guest took enough of what came before. `conflict` after close_input().
    virtual Awaitable<Result<void>> write(std::string bytes) = 0;
    virtual void close_input() = 0;
    // Input bytes that the process in the guest has taken; for a session that was attached, at least
    // those that the guest had by then.
    [[nodiscard]] virtual std::uint64_t input_taken() const = 0;
    // Bytes handed to write() so far, counted from the session's first, by whatever consumer: where
    // a client that lost its connection goes on.
    [[nodiscard]] virtual std::uint64_t input_written() const = 0;
    // Waits until input_taken() is more than `than`, or the session has ended (then unavailable).
    virtual Awaitable<Result<std::uint64_t>> input_taken_beyond(std::uint64_t than) = 0;

    // A signal for the whole process group; numbers as Linux has them.
    virtual void signal(int number) = 0;
    virtual void resize(proto::TerminalSize size) = 0;

    // Lets the session run on without a consumer: output is kept up to a bound, the oldest is
    // dropped first. The object is of no use afterwards.
    virtual void detach() = 0;
    // Lets the session stand still until somebody attaches or `hold` of its spec has passed.
    virtual void release() = 0;
    // Kills the process group (SIGKILL) and forgets the session.
    virtual void cancel() = 0;
};

}  // namespace noid::channel
