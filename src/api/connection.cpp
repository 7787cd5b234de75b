#include "api/connection.hpp"

#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/version.hpp>
#include <boost/beast/websocket.hpp>
#include <chrono>
#include <ctime>
#include <utility>

#include "base/log.hpp"
#include "base/random.hpp"
#include "wire/names.hpp"

namespace noid::api {

namespace {

namespace beast = boost::beast;
namespace http = beast::http;
namespace websocket = beast::websocket;
using namespace std::chrono_literals;

using Protocol = asio::generic::stream_protocol;
// The socket, TCP or Unix, with a timeout for each operation.
using Stream = beast::basic_stream<Protocol>;
using Clock = std::chrono::steady_clock;

constexpr auto as_result = asio::as_tuple(asio::use_awaitable);
constexpr std::size_t max_header_bytes = 32 * 1024;
constexpr std::size_t piece_bytes = 64 * 1024;
constexpr auto keep_alive_idle = 75s;
constexpr auto ping_interval = 15s;
// A zero window is probed every two minutes at the longest; a peer that acknowledges nothing for
// longer than that is gone.
constexpr auto peer_lost_after = 5min;
constexpr auto close_limit = 5s;

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

// The time as HTTP writes it; made anew once a second and thread.
const std::string& http_date() {
    thread_local std::time_t at = 0;
    thread_local std::string text;
    const std::time_t now = std::time(nullptr);
    if (now != at) {
        std::tm parts{};
        ::gmtime_r(&now, &parts);
        std::array<char, 64> buffer{};
        const std::size_t length =
            std::strftime(buffer.data(), buffer.size(), "%a, %d %b %Y %H:%M:%S GMT", &parts);
        text.assign(buffer.data(), length);
        at = now;
    }
    return text;
}

// Unique within one run of the server and hard to mistake for one of another run.
std::string next_request_id() {
    static const std::string run = random_hex(4);
    static std::atomic<std::uint32_t> counter{0};
    return fmt::format("{}{:08x}", run, counter.fetch_add(1, std::memory_order_relaxed));
}

Error broken(const beast::error_code& error) {
    return Error{Errc::unavailable, "the client's connection broke", error};
}

// The answer to a request whose body could not be read. Late is the client here, not a part of ours.
Response unread_body(const Error& error, std::string_view request_id) {
    if (error.code == Errc::timed_out) return problem(408, "timed_out", error.what, request_id);
    return to_response(error, request_id);
}

class BeastWebSocket final : public WebSocket, public std::enable_shared_from_this<BeastWebSocket> {
  public:
    explicit BeastWebSocket(Stream stream) : socket_{std::move(stream)}, turn_{socket_.get_executor()} {
        socket_.next_layer().expires_never();
        websocket::stream_base::timeout limits{};
        limits.handshake_timeout = close_limit;  // bounds the closing handshake too
        limits.idle_timeout = websocket::stream_base::none();
        socket_.set_option(limits);
        socket_.read_message_max(wire::max_message);
        socket_.auto_fragment(false);
        turn_.expires_at(asio::steady_timer::time_point::max());
    }

    template <class Request>
    Awaitable<Result<void>> accept(const Request& request) {
        const auto [error] = co_await socket_.async_accept(request, as_result);
        if (error) co_return fail(broken(error));
        co_return Result<void>{};
    }

    Awaitable<Result<Message>> read() override {
        buffer_.consume(buffer_.size());
        const auto [error, size] = co_await socket_.async_read(buffer_, as_result);
        if (error == websocket::error::closed) co_return Message{};
        if (error == websocket::error::message_too_big)
            co_return fail(Errc::too_large, "message larger than 1 MiB");
        if (error) co_return fail(broken(error));
        const std::string_view data{static_cast<const char*>(buffer_.cdata().data()), buffer_.size()};
        co_return Message{socket_.got_text() ? Message::Kind::text : Message::Kind::binary, data};
    }

    Awaitable<Result<void>> write_text(std::string text) override {
        const std::array<asio::const_buffer, 1> buffers{asio::buffer(text)};
        co_return co_await write(false, buffers);
    }

    Awaitable<Result<void>> write_binary(wire::Channel channel, std::string_view payload) override {
        const auto head = static_cast<unsigned char>(channel);
        const std::array<asio::const_buffer, 2> buffers{asio::buffer(&head, 1),
                                                        asio::buffer(payload.data(), payload.size())};
        co_return co_await write(true, buffers);
    }

    Awaitable<void> close() override {
        if (!std::exchange(closing_, true)) {
            co_await socket_.async_close(websocket::close_reason{websocket::close_code::none}, as_result);
        }
    }

    Awaitable<void> keep_alive() override {
        asio::steady_timer timer{socket_.get_executor()};
        while (true) {
            timer.expires_after(ping_interval);
            co_await timer.async_wait(asio::use_awaitable);
            if (peer_lost()) co_return;
            // Behind a write that waits for a slow reader a ping would only queue up.
            if (writing_) continue;
            const auto [error] = co_await socket_.async_ping({}, as_result);
            if (error) co_return;
        }
    }

    // The server stops: says so. The reader then gets `closed`.
    void go_away() {
        if (std::exchange(closing_, true)) return;
        auto farewell = [self = shared_from_this()]() -> Awaitable<void> {
            co_await self->socket_.async_close(websocket::close_reason{websocket::close_code::going_away},
                                               as_result);
        };
        asio::co_spawn(socket_.get_executor(), std::move(farewell), [](const std::exception_ptr& thrown) {
            if (thrown) log::exception("closing a WebSocket", thrown);
        });
    }

    void abort() { socket_.next_layer().close(); }

  private:
    template <class Buffers>
    Awaitable<Result<void>> write(bool binary, const Buffers& buffers) {
        while (writing_) {
            // Woken by cancel() when it is somebody's turn; a cancellation of this coroutine throws at
            // the next co_await.
            co_await turn_.async_wait(as_result);
        }
        writing_ = true;
        socket_.binary(binary);
        const auto [error, size] = co_await socket_.async_write(buffers, as_result);
        writing_ = false;
        turn_.cancel();
        if (error) co_return fail(broken(error));
        co_return Result<void>{};
    }

    bool peer_lost() {
        ::tcp_info info{};
        ::socklen_t size = sizeof info;
        const int fd = socket_.next_layer().socket().native_handle();
        if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return false;  // a Unix socket
        return info.tcpi_unacked > 0 && std::chrono::milliseconds{info.tcpi_last_ack_recv} > peer_lost_after;
    }

    websocket::stream<Stream> socket_;
    beast::flat_buffer buffer_;
    asio::steady_timer turn_;  // cancelled when a write ends
    bool writing_ = false;
    bool closing_ = false;
};

class HttpConnection final : public Connection, public std::enable_shared_from_this<HttpConnection> {
  public:
    HttpConnection(Protocol::socket socket, Peer peer, Listening listening, Services& services,
                   const Router& router)
        : stream_{std::move(socket)},
          stop_event_{stream_.get_executor(), asio::steady_timer::time_point::max()},
          cut_{stream_.get_executor()},
          peer_{std::move(peer)},
          listening_{listening},
          services_{services},
          router_{router} {}

    Awaitable<void> run() override;
    void stop() override;
    void abort() override;

  private:
    using Parser = http::request_parser<http::buffer_body>;
    class Ticket;
    enum class Cut : std::uint8_t { none, client_gone, deadline, aborted };

    // One request; false when the connection is at its end.
    Awaitable<bool> serve_one();
    Awaitable<Response> answer(Ticket& ticket);
    Awaitable<Response> run_endpoint(Ticket& ticket, const Match& match, Call& call);
    Awaitable<Result<Response>> race(Waiting endpoint, Call& call, bool watch_client,
                                     std::optional<std::chrono::milliseconds> limit);
    Awaitable<void> client_gone(bool watch);
    Awaitable<Result<std::string>> read_body(std::uint64_t limit);
    Awaitable<Result<std::string>> read_piece();
    Awaitable<beast::error_code> read_some_of_body();
    Awaitable<bool> write_response(const Ticket& ticket, Response response);
    Awaitable<void> linger();
    void prepare(http::response_header<>& head, const Ticket& ticket, const Response& response) const;
    void log_request(const Ticket& ticket, unsigned status) const;
    [[nodiscard]] std::string counted_source() const;
    [[nodiscard]] bool wants_upgrade() const;

    Stream stream_;
    asio::steady_timer stop_event_;  // cancelled when the server stops
    asio::steady_timer cut_;         // ends the endpoint that runs: at its deadline, or cancelled by abort()
    Peer peer_;
    Listening listening_;
    Services& services_;
    const Router& router_;
    beast::flat_buffer buffer_;
    std::optional<Parser> parser_;
    std::weak_ptr<BeastWebSocket> web_socket_;
    bool idle_ = false;  // between two requests
    bool stopping_ = false;
    bool aborted_ = false;
    bool upgraded_ = false;  // stream_ was moved from
    bool continue_sent_ = false;
    bool keep_alive_ = true;
    bool timed_reading_ = true;  // the body being read has deadlines
    Cut cut_reason_ = Cut::none;
};

// What belongs to one request. The Exchange that its endpoint sees.
class HttpConnection::Ticket final : public Exchange {
  public:
    Ticket(HttpConnection& connection, std::string request_id)
        : id{std::move(request_id)}, began{Clock::now()}, connection_{connection} {}

    std::string_view header(std::string_view name) const override {
        const auto& head = connection_.parser_->get();
        const auto found = head.find(boost::string_view{name.data(), name.size()});
        return found == head.end() ? std::string_view{}
                                   : std::string_view{found->value().data(), found->value().size()};
    }

    Awaitable<Result<std::string>> read_some() override { return connection_.read_piece(); }

    Awaitable<Result<void>> start(Response response, std::optional<std::uint64_t> length) override {
        http::response<http::empty_body> head;
        head.version(11);
        streaming_ = true;
        streamed_status = response.status;
        connection_.prepare(head, *this, response);
        chunked_ = !length && connection_.parser_->get().version() >= 11;
        if (chunked_) {
            head.chunked(true);
        } else if (length) {
            head.content_length(*length);
        } else {
            connection_.keep_alive_ = false;  // HTTP/1.0: the end of the connection ends the body
        }
        head.keep_alive(connection_.keep_alive_);
        http::response_serializer<http::empty_body> serializer{head};
        connection_.stream_.expires_never();
        const auto [error, size] =
            co_await http::async_write_header(connection_.stream_, serializer, as_result);
        if (error) co_return fail(broken(error));
        co_return Result<void>{};
    }

    Awaitable<Result<void>> write(std::string_view bytes) override {
        if (method == Method::head || bytes.empty()) co_return Result<void>{};
        const asio::const_buffer data{bytes.data(), bytes.size()};
        beast::error_code error;
        std::size_t size = 0;
        if (chunked_) {
            std::tie(error, size) =
                co_await asio::async_write(connection_.stream_, http::make_chunk(data), as_result);
        } else {
            std::tie(error, size) = co_await asio::async_write(connection_.stream_, data, as_result);
        }
        if (error) co_return fail(broken(error));
        co_return Result<void>{};
    }

    Awaitable<Result<void>> finish() override {
        finished = true;
        if (method == Method::head || !chunked_) co_return Result<void>{};
        const auto [error, size] =
            co_await asio::async_write(connection_.stream_, http::make_chunk_last(), as_result);
        if (error) co_return fail(broken(error));
        co_return Result<void>{};
    }

    Awaitable<Result<std::shared_ptr<WebSocket>>> upgrade() override {
        connection_.upgraded_ = true;
        auto socket = std::make_shared<BeastWebSocket>(std::move(connection_.stream_));
        connection_.web_socket_ = socket;
        streamed_status = 101;
        if (auto accepted = co_await socket->accept(connection_.parser_->get()); !accepted)
            co_return fail(std::move(accepted).error());
        if (connection_.stopping_) socket->go_away();
        co_return socket;
    }

    Awaitable<void> stopping() override {
        while (!connection_.stopping_) co_await connection_.stop_event_.async_wait(as_result);
    }

    [[nodiscard]] bool streaming() const noexcept { return streaming_; }

    std::string id;
    Clock::time_point began;
    Method method = Method::get;
    std::string path;  // for the log; without the query
    std::string user = "-";
    std::optional<std::chrono::seconds> retry_after;
    unsigned streamed_status = 200;
    bool finished = false;

  private:
    HttpConnection& connection_;
    bool streaming_ = false;
    bool chunked_ = false;
};

Awaitable<void> HttpConnection::run() {
    const auto self = shared_from_this();
    services_.metrics.connections.fetch_add(1, std::memory_order_relaxed);
    while (!stopping_ && co_await serve_one()) {
    }
    if (!upgraded_) stream_.close();
    services_.metrics.connections.fetch_sub(1, std::memory_order_relaxed);
}

void HttpConnection::stop() {
    asio::post(stop_event_.get_executor(), [self = shared_from_this()] {
        self->stopping_ = true;
        self->stop_event_.cancel();
        if (self->idle_) self->stream_.cancel();
        if (const auto socket = self->web_socket_.lock()) socket->go_away();
    });
}

void HttpConnection::abort() {
    asio::post(stop_event_.get_executor(), [self = shared_from_this()] {
        self->stopping_ = true;
        self->aborted_ = true;
        self->stop_event_.cancel();
        self->cut_.cancel();
        if (!self->upgraded_) self->stream_.close();
        if (const auto socket = self->web_socket_.lock()) socket->abort();
    });
}

Awaitable<bool> HttpConnection::serve_one() {
    parser_.emplace();
    parser_->header_limit(max_header_bytes);
    parser_->body_limit(boost::none);  // bounded where it is read
    continue_sent_ = false;
    keep_alive_ = true;
    timed_reading_ = true;

    idle_ = true;
    stream_.expires_after(keep_alive_idle);
    const auto [error, size] = co_await http::async_read_header(stream_, buffer_, *parser_, as_result);
    idle_ = false;
    const bool unreadable =
        error && error.category() == http::make_error_code(http::error::end_of_stream).category();
    if (error &&
        (!unreadable || error == http::error::end_of_stream || error == http::error::partial_message))
        co_return false;

    Ticket ticket{*this, next_request_id()};
    Response response;
    if (unreadable) {
        keep_alive_ = false;
        const bool too_long = error == http::error::header_limit;
        response = too_long ? problem(431, "too_large", "request header too large (max 32 KiB)", ticket.id)
                            : problem(400, "invalid", "malformed request: " + error.message(), ticket.id);
        ticket.path = "-";
        ticket.method = Method::other;
    } else {
        keep_alive_ = parser_->get().keep_alive();
        response = co_await answer(ticket);
    }
    if (cut_reason_ == Cut::client_gone || cut_reason_ == Cut::aborted) {
        log_request(ticket, 499);
        co_return false;
    }
    if (response.sent) {
        log_request(ticket, ticket.streamed_status);
        co_return !upgraded_ && ticket.finished && keep_alive_ && !stopping_ && parser_->is_done();
    }
    if (ticket.streaming()) {  // failed in the middle: only a closed connection can say so
        log_request(ticket, response.status);
        co_return false;
    }
    if (!parser_->is_done() || stopping_) keep_alive_ = false;
    const unsigned status = response.status;
    const bool written = co_await write_response(ticket, std::move(response));
    log_request(ticket, status);
    if (written && !keep_alive_) co_await linger();
    co_return written&& keep_alive_;
}

Awaitable<Response> HttpConnection::answer(Ticket& ticket) {
    const auto& request = parser_->get();
    ticket.method = to_method(request.method());
    const std::string_view text{request.target().data(), request.target().size()};
    ticket.path = wire::clipped(text.substr(0, text.find('?')), 256);
    const auto target = Target::parse(text);
    if (!target) co_return to_response(target.error(), ticket.id);

    const bool upgrade = wants_upgrade();
    const Routing routing = router_.route(ticket.method, *target, upgrade);
    const auto* match = std::get_if<Match>(&routing);
    Call call{services_, ticket, ticket.method, *target, ticket.id, nullptr, {}, {}};
    if (listening_ == Listening::main && !(match != nullptr && match->route->access == Access::open)) {
        auto outcome = services_.authenticator.authenticate(ticket.header("Authorization"), counted_source(),
                                                            Clock::now());
        if (auto* refusal = std::get_if<Refusal>(&outcome)) {
            Response response = to_response(refusal->error, ticket.id);
            if (response.status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
            if (refusal->retry_after.count() > 0)
                response.headers.emplace_back("Retry-After", std::to_string(refusal->retry_after.count()));
            co_return response;
        }
        call.tenant = std::get<std::shared_ptr<vm::Tenant>>(std::move(outcome));
        ticket.user = call.tenant->user_name();
    }
    if (std::holds_alternative<NoSuchPath>(routing)) {
        const bool nameless =
            target->trailing_slash && target->segments == std::vector<std::string>{"v1", "vms"};
        if (nameless) co_return problem(400, "invalid", "missing VM name in path", ticket.id);
        co_return problem(404, "not_found", "not found", ticket.id);
    }
    if (const auto* wrong = std::get_if<WrongMethod>(&routing)) {
        Response response =
            ticket.method == Method::options
                ? Response::no_content()
                : problem(405, "method_not_allowed",
                          "method not allowed here (allowed: " + wrong->allow + ")", ticket.id);
        response.headers.emplace_back("Allow", wrong->allow);
        co_return response;
    }
    if (const auto* needs = std::get_if<NeedsUpgrade>(&routing)) {
        const std::string_view pattern = needs->route->pattern;
        Response response =
            problem(426, "upgrade_required",
                    fmt::format("WebSocket upgrade required for GET {}", pattern.substr(pattern.rfind('/'))),
                    ticket.id);
        response.headers.emplace_back("Upgrade", "websocket");
        co_return response;
    }
    call.parameters = match->parameters;
    co_return co_await run_endpoint(ticket, *match, call);
}

Awaitable<Response> HttpConnection::run_endpoint(Ticket& ticket, const Match& match, Call& call) {
    const Route& route = *match.route;
    if (const auto coding = ticket.header("Content-Encoding"); !coding.empty() && coding != "identity")
        co_return problem(415, "unsupported_media_type", "request bodies must not be compressed", ticket.id);
    if (const auto expect = ticket.header("Expect");
        !expect.empty() && !beast::iequals(expect, "100-continue"))
        co_return problem(417, "invalid", "cannot meet this expectation", ticket.id);
    if (route.web_socket) {
        if (!websocket::is_upgrade(parser_->get()) || ticket.header("Sec-WebSocket-Key").empty() ||
            buffer_.size() > 0)
            co_return problem(400, "invalid", "malformed WebSocket handshake", ticket.id);
        if (ticket.header("Sec-WebSocket-Version") != "13") {
            Response response = problem(426, "upgrade_required", "WebSocket version must be 13", ticket.id);
            response.headers.emplace_back("Sec-WebSocket-Version", "13");
            co_return response;
        }
    }
    if (route.input == Input::json) {
        auto body = co_await read_body(services_.config.limits.max_body_bytes);
        if (!body) co_return unread_body(body.error(), ticket.id);
        call.body = std::move(*body);
    } else if (route.input == Input::none && !parser_->is_done()) {
        auto ignored = co_await read_body(piece_bytes);
        if (!ignored) co_return unread_body(ignored.error(), ticket.id);
    } else {
        timed_reading_ = false;
    }
    Result<Response> response;
    try {
        if (const auto* immediate = std::get_if<Immediate>(&route.endpoint)) {
            response = (*immediate)(call);
        } else {
            std::optional<std::chrono::milliseconds> limit;
            if (route.deadline == Deadline::request) limit = services_.config.server.timeout;
            const bool watch = route.input != Input::stream && !route.web_socket;
            response = co_await race(std::get<Waiting>(route.endpoint), call, watch, limit);
        }
    } catch (...) {
        // A bug in one endpoint costs one request; its caller learns no more than that.
        log::exception(route.pattern, std::current_exception());
        response = fail(Errc::internal, "internal error");
    }
    if (response) co_return std::move(*response);
    if (response.error().code == Errc::internal)
        log::error("request failed", {{"request", ticket.id}, {"error", response.error().full()}});
    co_return to_response(response.error(), ticket.id);
}

// The endpoint against its deadline, the client's going away, and abort(). Whoever is first, the
// endpoint has ended when this returns.
Awaitable<Result<Response>> HttpConnection::race(Waiting endpoint, Call& call, bool watch_client,
                                                 std::optional<std::chrono::milliseconds> limit) {
    if (aborted_) co_return fail(Errc::cancelled, "the server stops");
    cut_reason_ = Cut::none;
    if (limit) {
        cut_.expires_after(*limit);
    } else {
        cut_.expires_at(asio::steady_timer::time_point::max());
    }
    const auto executor = cut_.get_executor();
    auto group = asio::experimental::make_parallel_group(
        asio::co_spawn(executor, endpoint(call), asio::deferred), cut_.async_wait(asio::deferred),
        asio::co_spawn(executor, client_gone(watch_client), asio::deferred));
    auto [order, thrown, response, cut_error, gone_thrown] =
        co_await group.async_wait(asio::experimental::wait_for_one(), asio::use_awaitable);
    if (order[0] == 0) {
        if (thrown) std::rethrow_exception(thrown);
        co_return std::move(response);
    }
    if (order[0] == 1 && !aborted_) {
        cut_reason_ = Cut::deadline;
        co_return fail(Errc::timed_out, fmt::format("request timed out after {} ms", limit->count()));
    }
    cut_reason_ = aborted_ ? Cut::aborted : Cut::client_gone;
    co_return fail(Errc::cancelled, "the client went away");
}

// Returns when the client has closed its end. A further request that it sends meanwhile stays unread,
// and then this never returns.
Awaitable<void> HttpConnection::client_gone(bool watch) {
    if (watch) {
        const auto [error] = co_await stream_.socket().async_wait(Protocol::socket::wait_read, as_result);
        if (error == asio::error::operation_aborted && !aborted_) co_return;
        char byte = 0;
        const ssize_t got = ::recv(stream_.socket().native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
        if (got <= 0 && !(got < 0 && (errno == EAGAIN || errno == EINTR))) co_return;
    }
    asio::steady_timer never{stop_event_.get_executor(), asio::steady_timer::time_point::max()};
    co_await never.async_wait(asio::use_awaitable);
}

Awaitable<Result<std::string>> HttpConnection::read_body(std::uint64_t limit) {
    const auto too_large = [&] {
        return fail(Errc::too_large, fmt::format("request body too large (max {} bytes)", limit));
    };
    if (const auto length = parser_->content_length(); length && *length > limit) co_return too_large();
    std::string body;
    while (true) {
        auto piece = co_await read_piece();
        if (!piece) co_return fail(std::move(piece).error());
        if (piece->empty()) co_return body;
        if (body.size() + piece->size() > limit) co_return too_large();
        body += *piece;
    }
}

// error::timeout when the body has deadlines and nothing came. The stream's own timeout would close it, and
// the client could not be told.
Awaitable<beast::error_code> HttpConnection::read_some_of_body() {
    stream_.expires_never();
    if (!timed_reading_) {
        const auto [error, size] = co_await http::async_read_some(stream_, buffer_, *parser_, as_result);
        co_return error;
    }
    asio::steady_timer late{stop_event_.get_executor(), services_.config.server.timeout};
    auto group = asio::experimental::make_parallel_group(
        http::async_read_some(stream_, buffer_, *parser_, asio::deferred), late.async_wait(asio::deferred));
    const auto [order, error, size, late_error] =
        co_await group.async_wait(asio::experimental::wait_for_one(), asio::use_awaitable);
    if (order[0] == 1 && !late_error) co_return beast::error::timeout;
    co_return error;
}

Awaitable<Result<std::string>> HttpConnection::read_piece() {
    std::string piece;
    if (parser_->is_done()) co_return piece;
    if (!continue_sent_ && beast::iequals(parser_->get()[http::field::expect], "100-continue")) {
        continue_sent_ = true;
        http::response<http::empty_body> go_on{http::status::continue_, 11};
        stream_.expires_after(services_.config.server.timeout);
        const auto [error, size] = co_await http::async_write(stream_, go_on, as_result);
        if (error) co_return fail(broken(error));
    }
    piece.resize(piece_bytes);
    auto& body = parser_->get().body();
    while (!parser_->is_done()) {
        body.data = piece.data();
        body.size = piece.size();
        const beast::error_code error = co_await read_some_of_body();
        if (error == beast::error::timeout)
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

void HttpConnection::prepare(http::response_header<>& head, const Ticket& ticket,
                             const Response& response) const {
    head.result(response.status);
    head.set(http::field::date, http_date());
    head.set(http::field::server, "noid-server");
    head.set("X-Noid-Api-Version", "1");
    head.set("X-Request-Id", ticket.id);
    if (!response.content_type.empty()) head.set(http::field::content_type, response.content_type);
    for (const auto& [name, value] : response.headers) head.insert(name, value);
}

Awaitable<bool> HttpConnection::write_response(const Ticket& ticket, Response response) {
    stream_.expires_after(services_.config.server.timeout);
    if (ticket.method == Method::head) {
        http::response<http::empty_body> head;
        head.version(11);
        prepare(head, ticket, response);
        head.content_length(response.body.size());
        head.keep_alive(keep_alive_);
        http::response_serializer<http::empty_body> serializer{head};
        const auto [error, size] = co_await http::async_write_header(stream_, serializer, as_result);
        co_return !error;
    }
    http::response<http::string_body> message;
    message.version(11);
    prepare(message, ticket, response);
    message.set(http::field::content_length, std::to_string(response.body.size()));
    message.body() = std::move(response.body);
    message.keep_alive(keep_alive_);
    const auto [error, size] = co_await http::async_write(stream_, message, as_result);
    co_return !error;
}

// Lets the client read our last answer although it may still be sending: closing with unread bytes in
// the socket would reset the connection under it.
Awaitable<void> HttpConnection::linger() {
    beast::error_code ignored;
    stream_.socket().shutdown(Protocol::socket::shutdown_send, ignored);
    stream_.expires_after(2s);
    std::array<char, 16 * 1024> sink;
    for (std::size_t total = 0; total < (4U << 20);) {
        const auto [error, size] = co_await stream_.async_read_some(asio::buffer(sink), as_result);
        if (error) co_return;
        total += size;
    }
}

void HttpConnection::log_request(const Ticket& ticket, unsigned status) const {
    services_.metrics.count_request(status);
    if (!log::enabled(log::Level::info)) return;
    const auto elapsed = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - ticket.began);
    const auto milliseconds = fmt::format("{}.{:03}", elapsed.count() / 1000, elapsed.count() % 1000);
    std::string_view forwarded = "-";
    if (parser_->is_header_done()) {
        if (const auto value = ticket.header("X-Forwarded-For"); !value.empty())
            forwarded = value.substr(0, 128);
    }
    log::info("request", {{"id", ticket.id},
                          {"user", ticket.user},
                          {"method", name_of(ticket.method)},
                          {"path", ticket.path},
                          {"status", std::to_string(status)},
                          {"ms", milliseconds},
                          {"remote", peer_.text},
                          {"fwd", forwarded}});
}

std::string HttpConnection::counted_source() const {
    if (services_.config.server.trust_forwarded_for) {
        // The nearest proxy's entry is the last one of the last header.
        std::string_view last;
        const auto [begin, end] = parser_->get().equal_range("X-Forwarded-For");
        for (auto header = begin; header != end; ++header)
            last = {header->value().data(), header->value().size()};
        auto address = forwarded_address(last);
        if (!address.empty()) return address;
    }
    return peer_.address;
}

bool HttpConnection::wants_upgrade() const {
    return beast::iequals(parser_->get()[http::field::upgrade], "websocket");
}

}  // namespace

std::shared_ptr<Connection> Connection::create(asio::generic::stream_protocol::socket socket, Peer peer,
                                               Listening listening, Services& services,
                                               const Router& router) {
    return std::make_shared<HttpConnection>(std::move(socket), std::move(peer), listening, services, router);
}

}  // namespace noid::api
