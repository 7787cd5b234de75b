#pragma once

#include <boost/asio/generic/stream_protocol.hpp>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/head_lines.hpp"
#include "api/message.hpp"
#include "base/async.hpp"
#include "base/error.hpp"

namespace noid::api {

// The head of a request. Views are valid until the next one is read.
struct RequestHead {
    Method method = Method::other;
    std::string_view verb;  // the method as the client spelt it
    std::string_view target;
    bool http_1_0 = false;
    std::optional<std::uint64_t> content_length;
};

// HTTP/1 on one client's socket: reads requests, writes answers, one after the other. Reading and
// writing have deadlines unless they are said to be streams. On the socket's executor, a strand.
class HttpChannel {
  public:
    using Socket = asio::generic::stream_protocol::socket;

    HttpChannel() = default;
    HttpChannel(const HttpChannel&) = delete;
    HttpChannel& operator=(const HttpChannel&) = delete;
    virtual ~HttpChannel() = default;

    // `timeout` bounds each wait for a client in the middle of a request or an answer.
    [[nodiscard]] static std::unique_ptr<HttpChannel> create(Socket socket,
                                                             std::chrono::milliseconds timeout);

    // Reads the next request up to its body. False when there is no further one: the client closed, or
    // was silent for long. invalid: what came is no HTTP; too_large: the head has more than 32 KiB.
    virtual Awaitable<Result<bool>> read_head() = 0;
    [[nodiscard]] virtual const RequestHead& head() const = 0;
    // The first field of that name; empty when absent.
    [[nodiscard]] virtual std::string_view header(std::string_view name) const = 0;
    [[nodiscard]] virtual std::vector<HeaderField> headers() const = 0;

    // The next piece of the body, at most 64 KiB; empty at its end. A body is a `stream` when the client
    // may take as long as it likes; otherwise timed_out. unavailable when the client is gone.
    virtual Awaitable<Result<std::string>> read_piece(bool stream) = 0;
    [[nodiscard]] virtual bool body_read() const = 0;
    // Bytes behind the request are here already.
    [[nodiscard]] virtual bool has_more() const = 0;

    // Whether another request may follow this one on the connection; an answer says so to the client.
    [[nodiscard]] virtual bool keeps_alive() const = 0;
    virtual void end_after_this() = 0;

    // A whole answer. A HEAD request gets the head only.
    virtual Awaitable<Result<void>> answer(unsigned status, HeadLines lines, std::string body) = 0;
    // An answer as a stream, chunked when its length is not known; write() and finish() follow.
    virtual Awaitable<Result<void>> begin(unsigned status, HeadLines lines,
                                          std::optional<std::uint64_t> length) = 0;
    virtual Awaitable<Result<void>> write(std::string_view bytes) = 0;
    virtual Awaitable<Result<void>> finish() = 0;

    // Returns when the client has closed its end. A further request that it sends meanwhile stays
    // unread, and then this never returns.
    virtual Awaitable<void> client_gone() = 0;
    // Lets the client read our last answer although it may still be sending: closing with unread bytes
    // in the socket would reset the connection under it.
    virtual Awaitable<void> linger() = 0;

    // The bare connection, for a protocol that takes over. Empty: the client closed its end.
    virtual Awaitable<Result<std::string>> read_raw() = 0;
    virtual Awaitable<Result<void>> write_raw(std::string_view bytes) = 0;
    virtual void shut_down_writing() = 0;

    // Hands the socket on; the channel is of no use afterwards.
    [[nodiscard]] virtual Socket release() = 0;
    // Ends the wait for a next request, if there is one.
    virtual void stop_waiting() = 0;
    virtual void close() = 0;
};

}  // namespace noid::api
