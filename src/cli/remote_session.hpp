#pragma once

#include <array>
#include <boost/asio/cancellation_signal.hpp>
#include <chrono>
#include <cstdint>
#include <deque>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>

#include "base/async.hpp"
#include "base/error.hpp"
#include "cli/client_config.hpp"
#include "cli/dial.hpp"
#include "cli/event.hpp"
#include "cli/replay_buffer.hpp"
#include "cli/web_socket.hpp"
#include "wire/exec.hpp"
#include "wire/stream.hpp"

namespace noid::cli {

// The client's end of a command in a VM, of a file on its way, or of a TCP connection made there, over
// WebSocket. Outlives its connection: when that breaks, a new one attaches to the session and both directions
// go on at their offsets, so that no byte is lost or doubled. Against a server without sessions (the
// original's) it is one connection and no input.
//
// One coroutine awaits run(), others move the bytes; run() may not be cancelled, but abandon() ends
// it at once. Lives on the loop's thread.
class RemoteSession {
  public:
    // A running session to take over; the caller has that many bytes of each output already.
    struct Attach {
        std::string id;
        std::uint64_t have_out = 0;
        std::uint64_t have_err = 0;
    };
    // A TCP connection to a port of the VM; stdout and stdin are its two directions.
    struct Connect {
        std::uint16_t port = 0;
    };
    // A file or a tree (as a tar) of the VM: what is read there is stdout, what is written there stdin.
    struct Transfer {
        enum class Operation : std::uint8_t { read_file, write_file, read_archive, write_archive };
        Operation operation = Operation::read_file;
        std::string path;      // absolute
        unsigned mode = 0644;  // of a file that is written
    };
    using Start = std::variant<wire::ExecRequest, Attach, Connect, Transfer>;

    struct Options {
        Account account;
        std::string vm;
        Trace trace;
        // Within this time a broken connection must be back; the server is asked to hold as long.
        std::chrono::milliseconds hold{60'000};
        std::function<void(const std::string& id)> opened;         // the server has sessions, this is ours
        std::function<void(const std::string& what)> interrupted;  // connection lost, trying again
        std::function<void()> resumed;
        std::function<void(std::uint64_t bytes)> dropped;  // output that was no longer kept
    };

    // How it ended.
    struct Finished {
        wire::ExecResult result;
        bool had_session = false;  // the server has sessions: no exit code means that it was killed
    };
    struct Detached {
        std::string id;
    };
    // The server did not let the WebSocket be; nothing has been started.
    struct Refused {
        Error error;
        unsigned status = 0;
    };
    // Nobody will ever know how it ended.
    struct Lost {
        std::string what;
        std::string session;  // may still be there for somebody to attach to; empty: it is not
    };
    // The server said that it cannot start or carry on the command.
    struct Failed {
        std::string what;
    };
    struct Abandoned {};
    using Ending = std::variant<Finished, Detached, Refused, Lost, Failed, Abandoned>;

    // What is wrong with an ending that is neither Finished nor somebody's own wish, fit for a terminal.
    [[nodiscard]] static std::optional<Error> error_of(const Ending& ending);

    RemoteSession(const asio::any_io_executor& executor, Options options);

    Awaitable<Ending> run(Start start);

    // The bytes of a stream that came since the last call; empty once the stream has ended and all was
    // given out. What is not yet acknowledged by written() comes again after a client's crash.
    Awaitable<std::string> next_output(wire::Channel stream);
    void written(wire::Channel stream, std::uint64_t count);

    // Waits until input is wanted and there is room for it; false: the session is over.
    Awaitable<bool> room_for_input();
    void send_input(std::string bytes);
    void end_input();

    void send_signal(int number);
    void resize(wire::WindowSize size);
    // Kills the command. run() ends when the server confirms.
    void cancel();
    // Leaves the command running; run() ends with Detached.
    void detach();
    // Ends run() now, whatever becomes of the command.
    void abandon();

    [[nodiscard]] bool connected() const noexcept { return socket_ != nullptr; }
    [[nodiscard]] const std::string& id() const noexcept { return id_; }

  private:
    // Offsets of one stream: acknowledged <= safe <= written <= received.
    struct Output {
        std::string pending;  // received, not given out yet
        bool ended = false;
        std::uint64_t received = 0;
        std::uint64_t written = 0;
        std::uint64_t safe = 0;  // the last byte written; a gap behind it cannot be acknowledged
        std::uint64_t gap =
            0;  // of `received`, what the server dropped; counts as written after what came before
        std::uint64_t acknowledged = 0;
        std::uint64_t repeated = 0;  // what comes next and was received before

        void begin_at(std::uint64_t offset);
        // Says how many bytes are missing when the stream goes on at `offset`.
        std::uint64_t go_on_at(std::uint64_t offset);
        void take(std::string_view bytes);
        void wrote(std::uint64_t count);
        void settle_gap();
        [[nodiscard]] bool owes_acknowledgement() const;
    };
    using Connected = std::expected<std::unique_ptr<WebSocket>, WebSocket::Refusal>;

    // One attempt, which abandon() ends.
    Awaitable<Connected> connect(const Start& start);
    // Reconnects until `hold` has passed. nullptr with an ending when that failed.
    Awaitable<std::unique_ptr<WebSocket>> reconnect(std::string why, Ending& ending);
    // Serves one connection; nullopt with the reason when it broke.
    Awaitable<std::optional<Ending>> serve(WebSocket& socket, std::string& why);
    Awaitable<void> send_all(WebSocket& socket);
    std::optional<Ending> take(const WebSocket::Message& message);
    std::optional<Ending> take_text(std::string_view text);
    std::optional<Ending> on_opened(const wire::SessionOpened& opened);
    void note_missing(std::uint64_t bytes);
    void send(const wire::ClientMessage& message);
    [[nodiscard]] Output& output(wire::Channel stream);
    [[nodiscard]] bool acknowledgement_due() const;
    Ending finish(Ending ending);

    Options options_;
    asio::any_io_executor executor_;
    std::unique_ptr<WebSocket> socket_;
    std::string id_;
    bool over_ = false;
    bool detaching_ = false;
    bool abandoned_ = false;

    std::array<Output, 2> outputs_;
    Event output_changed_;

    bool opened_ = false;         // on this connection
    bool opened_before_ = false;  // on some connection
    ReplayBuffer input_;
    bool input_ended_ = false;
    bool input_end_sent_ = false;    // on this connection
    std::uint64_t input_sent_ = 0;   // on the wire, or taken from earlier connections
    std::uint64_t input_taken_ = 0;  // as the server says
    Event room_changed_;

    std::deque<std::string> control_;  // text messages that wait for a connection
    Event to_send_;

    asio::cancellation_signal attempt_;
    asio::steady_timer pause_;
};

}  // namespace noid::cli
