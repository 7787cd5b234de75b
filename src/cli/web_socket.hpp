#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/async.hpp"
#include "base/error.hpp"
#include "cli/client_config.hpp"
#include "cli/dial.hpp"

namespace noid::cli {

// A WebSocket to the server. Lives on the loop's thread. Reading and writing may go on at once;
// one reader at a time, any number of writers (they take turns). After an error of either, the
// connection is of no use. Dropping the object closes the TCP connection.
class WebSocket {
  public:
    enum class Kind : std::uint8_t { text, binary, closed };
    struct Message {
        Kind kind = Kind::closed;
        std::string_view data;  // valid until the next read()
    };
    // Why there is no WebSocket.
    struct Refusal {
        Error error;
        unsigned status = 0;  // of the server's answer; 0: there was none
    };
    // Whether a peer that is silent for half a minute, pings included, counts as lost. Only where
    // the reader never waits for somebody else between two reads.
    enum class Watch : std::uint8_t { off, silence };

    // GET `target` below the account's server, within ten seconds.
    static Awaitable<std::expected<std::unique_ptr<WebSocket>, Refusal>> connect(Account account,
                                                                                 std::string target,
                                                                                 Watch watch, Trace trace);
    WebSocket() = default;
    WebSocket(const WebSocket&) = delete;
    WebSocket& operator=(const WebSocket&) = delete;
    virtual ~WebSocket() = default;

    // `closed` once the peer has said goodbye; unavailable when the connection broke.
    virtual Awaitable<Result<Message>> read() = 0;
    virtual Awaitable<Result<void>> write_text(std::string_view text) = 0;
    // `head` and `payload` as one message.
    virtual Awaitable<Result<void>> write_binary(std::string_view head, std::string_view payload) = 0;
    // Says goodbye and waits, two seconds at most, for the peer's answer. A read() that waits gets
    // `closed`.
    virtual Awaitable<void> close() = 0;
    // Breaks the connection at once: reads and writes that wait fail.
    virtual void abort() = 0;
};

}  // namespace noid::cli
