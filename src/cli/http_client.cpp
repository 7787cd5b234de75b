#include "cli/http_client.hpp"

#include <fmt/format.h>

#include <boost/asio/ssl/stream.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>

#include "cli/dial.hpp"
#include "cli/tls.hpp"
#include "cli/version.hpp"

namespace noid::cli {
namespace {

namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;
using boost::system::error_code;
using namespace std::chrono_literals;

constexpr auto connect_limit = 5000ms;
constexpr std::size_t max_answer_bytes = 64 * 1024 * 1024;
constexpr std::uint32_t max_header_bytes = 64 * 1024;

auto into(error_code& failure) {
    return asio::redirect_error(asio::use_awaitable, failure);
}

std::unexpected<Error> connection_error(const std::string& detail) {
    return fail(Errc::unavailable, "connection error: " + detail);
}
std::unexpected<Error> connection_error(const error_code& failure) {
    if (failure == beast::error::timeout) return fail(Errc::timed_out, "connection error: no answer in time");
    if (failure == http::error::end_of_stream)
        return connection_error("the server closed the connection without an answer");
    if (failure == http::error::partial_message)
        return connection_error("the server closed the connection in the middle of its answer");
    return connection_error(failure.message());
}

http::verb verb_of(HttpMethod method) {
    switch (method) {
        case HttpMethod::get:
            return http::verb::get;
        case HttpMethod::head:
            return http::verb::head;
        case HttpMethod::post:
            return http::verb::post;
        case HttpMethod::put:
            return http::verb::put;
        case HttpMethod::patch:
            return http::verb::patch;
        case HttpMethod::delete_:
            return http::verb::delete_;
    }
    return http::verb::get;
}

template <class Stream>
void set_limit(Stream& stream, std::chrono::milliseconds limit) {
    auto& lowest = beast::get_lowest_layer(stream);
    if (limit == 0ms) {
        lowest.expires_never();
    } else {
        lowest.expires_after(limit);
    }
}

// The request's body, a buffer at a time as the source gives it.
template <class Stream>
Awaitable<Result<void>> write_streamed(Stream& stream, http::request<http::buffer_body>& head,
                                       const HttpRequest& request) {
    error_code failure;
    http::request_serializer<http::buffer_body> serializer{head};
    head.body().data = nullptr;
    head.body().more = true;
    set_limit(stream, request.read_timeout);
    co_await http::async_write_header(stream, serializer, into(failure));
    if (failure) co_return connection_error(failure);

    std::vector<char> chunk(transfer_chunk);
    while (!serializer.is_done()) {
        beast::get_lowest_layer(stream).expires_never();  // the source may take its time
        auto count = co_await request.upload(chunk);
        if (!count) co_return fail(count.error());
        head.body().data = *count > 0 ? chunk.data() : nullptr;
        head.body().size = *count;
        head.body().more = *count > 0;
        set_limit(stream, request.read_timeout);
        co_await http::async_write(stream, serializer, into(failure));
        if (failure == http::error::need_buffer) failure = {};
        if (failure) co_return connection_error(failure);
    }
    co_return Result<void>{};
}

template <class Stream>
Awaitable<Result<HttpAnswer>> read_answer(Stream& stream, const HttpRequest& request) {
    error_code failure;
    beast::flat_buffer buffer;
    http::response_parser<http::buffer_body> parser;
    parser.header_limit(max_header_bytes);
    parser.body_limit(boost::none);
    if (request.method == HttpMethod::head) parser.skip(true);
    set_limit(stream, request.read_timeout);
    co_await http::async_read_header(stream, buffer, parser, into(failure));
    if (failure) co_return connection_error(failure);

    HttpAnswer answer;
    answer.status = parser.get().result_int();
    for (const auto& field : parser.get())
        answer.headers.emplace_back(std::string{field.name_string()}, std::string{field.value()});

    const bool streamed = request.download && answer.status >= 200 && answer.status < 300;
    if (streamed && request.begin_download) {
        if (auto begun = request.begin_download(answer); !begun) co_return fail(begun.error());
    }
    std::vector<char> chunk(transfer_chunk);
    while (!parser.is_done()) {
        auto& body = parser.get().body();
        body.data = chunk.data();
        body.size = chunk.size();
        set_limit(stream, request.read_timeout);
        // For a stream, bytes are passed on as they come, not once a buffer is full.
        co_await http::async_read_some(stream, buffer, parser, into(failure));
        if (failure == http::error::need_buffer) failure = {};
        if (failure) co_return connection_error(failure);
        const std::string_view bytes{chunk.data(), chunk.size() - body.size};
        if (streamed) {
            beast::get_lowest_layer(stream).expires_never();
            if (auto taken = co_await request.download(bytes); !taken) co_return fail(taken.error());
        } else {
            if (answer.body.size() + bytes.size() > max_answer_bytes)
                co_return fail(Errc::too_large, "the server's answer is too large");
            answer.body += bytes;
        }
    }
    co_return answer;
}

template <class Stream>
Awaitable<Result<HttpAnswer>> exchange(Stream& stream, const http::fields& fields, const std::string& target,
                                       const HttpRequest& request) {
    Result<void> written;
    if (request.upload) {
        http::request<http::buffer_body> head{verb_of(request.method), target, 11};
        for (const auto& field : fields) head.set(field.name_string(), field.value());
        if (request.upload_size) {
            head.content_length(*request.upload_size);
        } else {
            head.chunked(true);
        }
        written = co_await write_streamed(stream, head, request);
    } else {
        http::request<http::string_body> whole{verb_of(request.method), target, 11};
        for (const auto& field : fields) whole.set(field.name_string(), field.value());
        whole.body() = request.body;
        whole.prepare_payload();
        error_code failure;
        set_limit(stream, request.read_timeout);
        co_await http::async_write(stream, whole, into(failure));
        if (failure) written = connection_error(failure);
    }
    // A server that refuses an upload answers and closes before it has read all of it.
    if (!written && written.error().code != Errc::unavailable) co_return fail(written.error());
    auto answer = co_await read_answer(stream, request);
    if (!written && (!answer || answer->status < 400)) co_return fail(written.error());
    co_return answer;
}

// Asks `proxy` for a tunnel on `stream`.
Awaitable<Result<void>> open_tunnel(beast::tcp_stream& stream, const ServerUrl& server) {
    const auto target = fmt::format("{}:{}", server.host, server.port);
    http::request<http::empty_body> request{http::verb::connect, target, 11};
    request.set(http::field::host, target);
    request.set(http::field::user_agent, user_agent());
    error_code failure;
    stream.expires_after(connect_limit);
    co_await http::async_write(stream, request, into(failure));
    if (failure) co_return connection_error(failure);
    beast::flat_buffer buffer;
    http::response_parser<http::empty_body> parser;
    parser.skip(true);
    co_await http::async_read_header(stream, buffer, parser, into(failure));
    if (failure) co_return connection_error(failure);
    if (parser.get().result_int() / 100 != 2)
        co_return connection_error(
            fmt::format("the proxy answered {} to CONNECT", parser.get().result_int()));
    co_return Result<void>{};
}

}  // namespace

std::optional<std::string> HttpAnswer::header(std::string_view name) const {
    for (const auto& [key, value] : headers) {
        if (beast::iequals(key, beast::string_view{name.data(), name.size()})) return value;
    }
    return std::nullopt;
}

HttpClient::HttpClient(ServerUrl server, std::string token, std::optional<ServerUrl> proxy)
    : server_{std::move(server)}, token_{std::move(token)}, proxy_{std::move(proxy)} {}

Awaitable<Result<HttpAnswer>> HttpClient::send(HttpRequest request) const {
    const auto executor = co_await asio::this_coro::executor;
    tcp::socket socket{executor};
    const auto& peer = proxy_ ? *proxy_ : server_;
    if (auto connected = co_await dial(socket, peer.host, peer.port, connect_limit, {}); !connected)
        co_return connection_error(connected.error().what);

    http::fields fields;
    fields.set(http::field::host, server_.authority());
    fields.set(http::field::user_agent, user_agent());
    fields.set(http::field::connection, "close");
    if (!token_.empty()) fields.set(http::field::authorization, "Bearer " + token_);
    if (!request.body.empty()) fields.set(http::field::content_type, "application/json");
    for (const auto& [name, value] : request.headers) fields.set(name, value);
    auto target = server_.path + request.target;

    beast::tcp_stream plain{std::move(socket)};
    if (!server_.tls) {
        if (proxy_) target = fmt::format("http://{}{}", server_.authority(), target);
        co_return co_await exchange(plain, fields, target, request);
    }
    if (proxy_) {
        if (auto tunnel = co_await open_tunnel(plain, server_); !tunnel) co_return fail(tunnel.error());
    }
    auto context = make_tls_context();
    if (!context) co_return fail(context.error());
    asio::ssl::stream<beast::tcp_stream> secure{std::move(plain), *context};
    if (auto expected = expect_host(secure.native_handle(), server_.host); !expected)
        co_return fail(expected.error());
    error_code failure;
    set_limit(secure, connect_limit);
    co_await secure.async_handshake(asio::ssl::stream_base::client, into(failure));
    if (failure) co_return connection_error(describe_tls_failure(secure.native_handle(), failure));
    co_return co_await exchange(secure, fields, target, request);
}

const std::string& user_agent() {
    static const std::string text = fmt::format("noid/{}", version);
    return text;
}

}  // namespace noid::cli
