#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "api/message.hpp"
#include "base/async.hpp"
#include "base/error.hpp"
#include "wire/stream.hpp"

namespace noid::api {

// One WebSocket, after its upgrade. Lives on the connection's strand. One reader; any number of
// writers, which take turns. After an error of either it is of no use.
class WebSocket {
  public:
    WebSocket() = default;
    WebSocket(const WebSocket&) = delete;
    WebSocket& operator=(const WebSocket&) = delete;
    virtual ~WebSocket() = default;

    struct Message {
        enum class Kind : std::uint8_t { text, binary, closed } kind = Kind::closed;
        std::string_view data;  // valid until the next read()
    };
    // `closed` when the peer said goodbye; unavailable when the connection broke or the server stops;
    // too_large beyond wire::max_message.
    virtual Awaitable<Result<Message>> read() = 0;
    // Return when the bytes are with the kernel: that is the back pressure.
    virtual Awaitable<Result<void>> write_text(std::string text) = 0;
    virtual Awaitable<Result<void>> write_binary(wire::Channel channel, std::string_view payload) = 0;
    // Says goodbye with an empty Close and waits a few seconds for the answer: true when it came, and with
    // it the word that the peer has got everything that was written. A read() may be waiting: it then gets
    // `closed`.
    virtual Awaitable<bool> close() = 0;
    // Pings the peer regularly; returns when it has not answered on the TCP level for long. A peer
    // that only reads nothing for a while is not taken for lost.
    virtual Awaitable<void> keep_alive() = 0;
};

// One request and its answer, as an endpoint sees it. Lives on the connection's strand.
class Exchange {
  public:
    Exchange() = default;
    Exchange(const Exchange&) = delete;
    Exchange& operator=(const Exchange&) = delete;
    virtual ~Exchange() = default;

    // Empty when absent.
    [[nodiscard]] virtual std::string_view header(std::string_view name) const = 0;

    // The next piece of the request's body, at most 64 KiB, empty at its end. timed_out when the
    // client sends nothing for the server's timeout; unavailable when it is gone.
    virtual Awaitable<Result<std::string>> read_some() = 0;

    // Begins an answer that is written as a stream: with its length when that is known, else chunked.
    // Then write() any number of times, then finish(); a stream that is left unfinished closes the
    // connection, so that the client sees that it is not whole. A HEAD request gets the head only.
    virtual Awaitable<Result<void>> start(Response head, std::optional<std::uint64_t> length) = 0;
    virtual Awaitable<Result<void>> write(std::string_view bytes) = 0;
    virtual Awaitable<Result<void>> finish() = 0;

    // Answers 101. Nothing else of the exchange may be used afterwards.
    virtual Awaitable<Result<std::shared_ptr<WebSocket>>> upgrade() = 0;

    // Returns why a stream must end now: the server stops, or its token is no longer valid. Streams
    // without an end of their own race against it, and have a few seconds to tell their client.
    virtual Awaitable<Error> ending() = 0;
};

}  // namespace noid::api
