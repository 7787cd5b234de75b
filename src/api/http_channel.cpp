#include "api/http_channel.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/chunk_encode.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <cerrno>
#include <utility>

#include "api/watchdog.hpp"

namespace noid::api {

namespace {

namespace beast = boost::beast;
namespace http = beast::http;
using namespace std::chrono_literals;

constexpr auto as_result = asio::as_tuple(asio::use_awaitable);
constexpr std::size_t max_header_bytes = 32 * 1024;
constexpr std::size_t piece_bytes = 64 * 1024;
constexpr auto keep_alive_idle = 75s;
constexpr auto linger_limit = 2s;
constexpr std::size_t linger_bytes = 4 * 1024 * 1024;

Method to_method(http::verb verb) noexcept {
    switch (verb) {
        case http::verb::get:
            return Method::get;
        case http::verb::head:
            return Method::head;
        case http::verb::post:
            return Method::post;
        case http::verb::put:
            return Method::put;
        case http::verb::patch:
            return Method::patch;
        case http::verb::delete_:
            return Method::delete_;
        case http::verb::options:
            return Method::options;
        default:
            return Method::other;
    }
}

std::string_view view(boost::string_view text) noexcept {
    return {text.data(), text.size()};
}

Error broken(const beast::error_code& error) {
    return Error{Errc::unavailable, "the client's connection broke", error};
}

// RFC 9110: such an answer has no body and must not name a length.
bool is_bodiless(unsigned status) noexcept {
    return status == 204 || status == 304 || status < 200;
}

class BeastChannel final : public HttpChannel {
  public:
    BeastChannel(Socket socket, std::chrono::milliseconds timeout)
        : socket_{std::move(socket)}, timeout_{timeout}, watchdog_{socket_.get_executor(), [this] {
                                                                       late_ = true;
                                                                       cancel();
                                                                   }} {
        beast::error_code ignored;
        socket_.non_blocking(true, ignored);
    }

    Awaitable<Result<bool>> read_head() override {
        head_ = {};
        parser_.emplace();
        parser_->header_limit(max_header_bytes);
        parser_->body_limit(boost::none);  // bounded where it is read
        continue_sent_ = false;
        chunked_ = false;
        keep_alive_ = false;
        limit_wait(keep_alive_idle);
        waiting_ = true;
        const auto [error, size] = co_await http::async_read_header(socket_, buffer_, *parser_, as_result);
        waiting_ = false;
        watchdog_.expires_never();
        if (error == http::error::header_limit)
            co_return fail(Errc::too_large, "request header too large (max 32 KiB)");
        const bool malformed =
            error.category() == http::make_error_code(http::error::end_of_stream).category() &&
            error != http::error::end_of_stream && error != http::error::partial_message;
        if (error && malformed) co_return fail(Errc::invalid, "malformed request: " + error.message());
        if (error) co_return false;
        const auto& request = parser_->get();
        keep_alive_ = request.keep_alive();
        head_.method = to_method(request.method());
        head_.verb = view(request.method_string());
        head_.target = view(request.target());
        head_.http_1_0 = request.version() < 11;
        head_.content_length.reset();
        if (const auto length = parser_->content_length()) head_.content_length = *length;
        co_return true;
    }

    const RequestHead& head() const override { return head_; }

    std::string_view header(std::string_view name) const override {
        if (!parser_ || !parser_->is_header_done()) return {};
        const auto& fields = parser_->get();
        const auto found = fields.find(boost::string_view{name.data(), name.size()});
        return found == fields.end() ? std::string_view{} : view(found->value());
    }

    std::vector<HeaderField> headers() const override {
        std::vector<HeaderField> all;
        for (const auto& field : parser_->get())
            all.push_back(HeaderField{view(field.name_string()), view(field.value())});
        return all;
    }

    Awaitable<Result<std::string>> read_piece(bool stream) override {
        std::string piece;
        if (parser_->is_done()) co_return piece;
        if (!continue_sent_ && beast::iequals(parser_->get()[http::field::expect], "100-continue")) {
            continue_sent_ = true;
            if (auto sent = co_await send("HTTP/1.1 100 Continue\r\n\r\n", {}); !sent)
                co_return fail(std::move(sent).error());
        }
        piece.resize(piece_bytes);
        auto& body = parser_->get().body();
        while (!parser_->is_done()) {
            body.data = piece.data();
            body.size = piece.size();
            if (!stream) limit_wait(timeout_);
            const auto [error, size] = co_await http::async_read_some(socket_, buffer_, *parser_, as_result);
            watchdog_.expires_never();
            if (error && std::exchange(late_, false))
                co_return fail(Errc::timed_out, "the request's body did not arrive in time");
            if (error && error != http::error::need_buffer) co_return fail(broken(error));
            const std::size_t got = piece.size() - body.size;
            if (got > 0) {
                piece.resize(got);
                co_return piece;
            }
        }
        piece.clear();
        co_return piece;
    }

    bool body_read() const override { return parser_->is_done(); }
    bool has_more() const override { return buffer_.size() > 0; }
    bool keeps_alive() const override { return keep_alive_; }
    void end_after_this() override { keep_alive_ = false; }

    Awaitable<Result<void>> answer(unsigned status, HeadLines lines, std::string body) override {
        std::string head = head_of(status, lines);
        if (!is_bodiless(status)) append_length(head, body.size());
        head += "\r\n";
        const bool whole = head_.method != Method::head && !is_bodiless(status);
        co_return co_await send(head, whole ? std::string_view{body} : std::string_view{});
    }

    Awaitable<Result<void>> begin(unsigned status, HeadLines lines,
                                  std::optional<std::uint64_t> length) override {
        chunked_ = !length && !head_.http_1_0 && !is_bodiless(status);
        // HTTP/1.0: the end of the connection ends the body.
        if (!length && !chunked_ && !is_bodiless(status)) keep_alive_ = false;
        std::string head = head_of(status, lines);
        if (chunked_) head += "Transfer-Encoding: chunked\r\n";
        if (length && !is_bodiless(status)) append_length(head, *length);
        head += "\r\n";
        co_return co_await send(head, {});
    }

    Awaitable<Result<void>> write(std::string_view bytes) override {
        if (head_.method == Method::head || bytes.empty()) co_return Result<void>{};
        const asio::const_buffer data{bytes.data(), bytes.size()};
        beast::error_code error;
        std::size_t size = 0;
        if (chunked_) {
            std::tie(error, size) = co_await asio::async_write(socket_, http::make_chunk(data), as_result);
        } else {
            std::tie(error, size) = co_await asio::async_write(socket_, data, as_result);
        }
        if (error) co_return fail(broken(error));
        co_return Result<void>{};
    }

    Awaitable<Result<void>> finish() override {
        if (head_.method == Method::head || !chunked_) co_return Result<void>{};
        co_return co_await send("0\r\n\r\n", {});
    }

    Awaitable<void> client_gone() override {
        const auto [error] = co_await socket_.async_wait(Socket::wait_read, as_result);
        if (error == asio::error::operation_aborted && socket_.is_open()) co_return;
        char byte = 0;
        const ssize_t got = ::recv(socket_.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
        if (got <= 0 && !(got < 0 && (errno == EAGAIN || errno == EINTR))) co_return;
        asio::steady_timer never{socket_.get_executor(), asio::steady_timer::time_point::max()};
        co_await never.async_wait(asio::use_awaitable);
    }

    Awaitable<void> linger() override {
        shut_down_writing();
        std::array<char, 16 * 1024> sink;
        limit_wait(linger_limit);
        for (std::size_t total = 0; total < linger_bytes;) {
            const auto [error, size] = co_await socket_.async_read_some(asio::buffer(sink), as_result);
            if (error) break;
            total += size;
        }
        watchdog_.expires_never();
    }

    Awaitable<Result<std::string>> read_raw() override {
        std::string bytes;
        if (buffer_.size() > 0) {
            bytes.assign(static_cast<const char*>(buffer_.cdata().data()), buffer_.size());
            buffer_.consume(buffer_.size());
            co_return bytes;
        }
        bytes.resize(piece_bytes);
        const auto [error, size] = co_await socket_.async_read_some(asio::buffer(bytes), as_result);
        if (error && error != asio::error::eof) co_return fail(broken(error));
        bytes.resize(size);
        co_return bytes;
    }

    Awaitable<Result<void>> write_raw(std::string_view bytes) override {
        const auto [error, size] = co_await asio::async_write(socket_, asio::buffer(bytes), as_result);
        if (error) co_return fail(broken(error));
        co_return Result<void>{};
    }

    void shut_down_writing() override {
        beast::error_code ignored;
        socket_.shutdown(Socket::shutdown_send, ignored);
    }

    Socket release() override { return std::move(socket_); }

    void stop_waiting() override {
        if (waiting_) cancel();
    }

    void close() override {
        beast::error_code ignored;
        socket_.close(ignored);
    }

  private:
    void limit_wait(std::chrono::steady_clock::duration limit) {
        late_ = false;
        watchdog_.expires_after(limit);
    }

    void cancel() {
        beast::error_code ignored;
        socket_.cancel(ignored);
    }

    [[nodiscard]] std::string head_of(unsigned status, const HeadLines& lines) const {
        std::string head;
        head.reserve(lines.text().size() + 128);
        head.append("HTTP/1.1 ").append(std::to_string(status)).push_back(' ');
        const http::status known = http::int_to_status(status);
        if (known != http::status::unknown) head.append(view(http::obsolete_reason(known)));
        head.append("\r\n");
        head.append(lines.text());
        if (!keep_alive_) head.append("Connection: close\r\n");
        if (keep_alive_ && head_.http_1_0) head.append("Connection: keep-alive\r\n");
        return head;
    }

    static void append_length(std::string& head, std::uint64_t length) {
        head.append("Content-Length: ").append(std::to_string(length)).append("\r\n");
    }

    // Most answers fit into the socket's buffer: those cost one system call and no timer.
    Awaitable<Result<void>> send(std::string_view head, std::string_view body) {
        const std::array<asio::const_buffer, 2> buffers{asio::buffer(head), asio::buffer(body)};
        beast::error_code error;
        std::size_t sent = socket_.write_some(buffers, error);
        if (error == asio::error::would_block) sent = 0;
        if (error && error != asio::error::would_block) co_return fail(broken(error));
        if (sent == head.size() + body.size()) co_return Result<void>{};
        limit_wait(timeout_);
        for (const std::string_view part : {head, body}) {
            const std::size_t skipped = std::min(sent, part.size());
            sent -= skipped;
            if (skipped == part.size()) continue;
            const auto rest = asio::buffer(part.substr(skipped));
            const auto [failed, size] = co_await asio::async_write(socket_, rest, as_result);
            if (failed) co_return fail(broken(failed));
        }
        watchdog_.expires_never();
        co_return Result<void>{};
    }

    Socket socket_;
    std::chrono::milliseconds timeout_;
    Watchdog watchdog_;
    beast::flat_buffer buffer_;
    std::optional<http::request_parser<http::buffer_body>> parser_;
    RequestHead head_;
    bool waiting_ = false;  // for a request
    bool late_ = false;     // the watchdog ended a wait
    bool continue_sent_ = false;
    bool keep_alive_ = false;
    bool chunked_ = false;
};

}  // namespace

std::unique_ptr<HttpChannel> HttpChannel::create(Socket socket, std::chrono::milliseconds timeout) {
    return std::make_unique<BeastChannel>(std::move(socket), timeout);
}

}  // namespace noid::api
