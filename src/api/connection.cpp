#include "api/connection.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/asio/as_tuple.hpp>
#include <cctype>
#include <chrono>
#include <ctime>
#include <optional>
#include <utility>

#include "api/guest_proxy.hpp"
#include "api/http_channel.hpp"
#include "api/request_log.hpp"
#include "api/server_web_socket.hpp"
#include "api/visitor.hpp"
#include "base/log.hpp"
#include "ingress/guest_stream.hpp"
#include "ingress/host_name.hpp"
#include "wire/names.hpp"

namespace noid::api {

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr auto as_result = asio::as_tuple(asio::use_awaitable);
constexpr std::size_t most_ignored_body = 64 * 1024;
// How long a stream may take to say goodbye once it must end.
constexpr auto farewell_limit = 5s;

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

bool equals_ignoring_case(std::string_view a, std::string_view b) noexcept {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

// The answer to a request whose body could not be read. Late is the client here, not a part of ours.
Response unread_body(const Error& error, std::string_view request_id) {
    if (error.code == Errc::timed_out) return problem(408, "timed_out", error.what, request_id);
    return to_response(error, request_id);
}

HeadLines lines_of(const Response& response, std::string_view request_id) {
    HeadLines lines;
    lines.add("Date", http_date());
    lines.add("Server", "noid-server");
    lines.add("X-Noid-Api-Version", "1");
    lines.add("X-Request-Id", request_id);
    if (!response.content_type.empty()) lines.add("Content-Type", response.content_type);
    for (const auto& [name, value] : response.headers) lines.add(name, value);
    return lines;
}

class HttpConnection final : public Connection, public std::enable_shared_from_this<HttpConnection> {
  public:
    HttpConnection(HttpChannel::Socket socket, Peer peer, Listening listening, Services& services,
                   const Router& router)
        : changed_{socket.get_executor(), asio::steady_timer::time_point::max()},
          cut_{socket.get_executor()},
          channel_{HttpChannel::create(std::move(socket), services.config.server.timeout)},
          peer_{std::move(peer)},
          listening_{listening},
          services_{services},
          router_{router} {}

    Awaitable<void> run() override;
    void stop() override;
    void abort() override;

  private:
    class Ticket;
    enum class Cut : std::uint8_t { none, client_gone, deadline, ended, aborted };

    // One request; false when the connection is at its end.
    Awaitable<bool> serve_one();
    Awaitable<Response> answer(Ticket& ticket);
    Awaitable<Response> visit(Ticket& ticket, std::string label);
    Awaitable<Result<Response>> lead_into_guest(Ticket& ticket, const Admission& admission);
    Awaitable<Response> run_endpoint(Ticket& ticket, const Match& match, Call& call);
    Awaitable<Result<void>> take_body(const Route& route, Call& call);
    Awaitable<Result<Response>> run_stream(Waiting endpoint, Call& call, bool watch_client);
    Awaitable<Result<Response>> race(Awaitable<Result<Response>> work, bool watch_client,
                                     std::optional<std::chrono::milliseconds> limit);
    [[nodiscard]] OpenStreams::End ending();
    Awaitable<void> client_gone(bool watch);
    Awaitable<Result<std::string>> read_body(std::uint64_t limit);
    [[nodiscard]] std::optional<Response> check_handshake(const Route& route,
                                                          std::string_view request_id) const;
    void end_stream(Error why);
    void log(const Ticket& ticket, unsigned status) const;
    [[nodiscard]] std::string counted_source() const;

    asio::steady_timer changed_;  // cancelled when streams must end
    asio::steady_timer cut_;      // ends the endpoint that runs: at its deadline, or when cancelled
    std::unique_ptr<HttpChannel> channel_;
    Peer peer_;
    Listening listening_;
    Services& services_;
    const Router& router_;
    std::weak_ptr<ServerWebSocket> web_socket_;
    bool stopping_ = false;
    bool aborted_ = false;
    bool upgraded_ = false;        // the channel's socket was handed on
    bool ends_itself_ = false;     // the endpoint that runs waits for ending()
    std::optional<Error> ending_;  // why the stream that runs must end
    Cut cut_reason_ = Cut::none;
};

// What belongs to one request. The Exchange that its endpoint sees.
class HttpConnection::Ticket final : public Exchange {
  public:
    explicit Ticket(HttpConnection& connection) : connection_{connection} { record.id = next_request_id(); }

    std::string_view header(std::string_view name) const override {
        return connection_.channel_->header(name);
    }

    Awaitable<Result<std::string>> read_some() override { return connection_.channel_->read_piece(true); }

    Awaitable<Result<void>> start(Response response, std::optional<std::uint64_t> length) override {
        streaming_ = true;
        streamed_status = response.status;
        return connection_.channel_->begin(response.status, lines_of(response, record.id), length);
    }

    Awaitable<Result<void>> write(std::string_view bytes) override {
        return connection_.channel_->write(bytes);
    }

    Awaitable<Result<void>> finish() override {
        finished = true;
        return connection_.channel_->finish();
    }

    Awaitable<Result<std::shared_ptr<WebSocket>>> upgrade() override {
        std::string key{header("Sec-WebSocket-Key")};
        connection_.upgraded_ = true;
        streamed_status = 101;
        auto socket = co_await ServerWebSocket::accept(connection_.channel_->release(), std::move(key));
        if (!socket) co_return fail(std::move(socket).error());
        connection_.web_socket_ = *socket;
        if (connection_.aborted_) (*socket)->abort();
        if (connection_.stopping_) (*socket)->go_away();
        if (connection_.ending_) (*socket)->end(*connection_.ending_);
        co_return *socket;
    }

    Awaitable<Error> ending() override {
        connection_.ends_itself_ = true;
        while (true) {
            if (connection_.ending_) co_return *connection_.ending_;
            if (connection_.stopping_) co_return Error{Errc::unavailable, "the server stops", {}};
            co_await connection_.changed_.async_wait(as_result);
        }
    }

    [[nodiscard]] bool streaming() const noexcept { return streaming_; }

    RequestRecord record;
    unsigned streamed_status = 200;
    bool finished = false;

  private:
    HttpConnection& connection_;
    bool streaming_ = false;
};

Awaitable<void> HttpConnection::run() {
    const auto self = shared_from_this();
    services_.metrics.connections.fetch_add(1, std::memory_order_relaxed);
    while (!stopping_ && co_await serve_one()) {
    }
    if (!upgraded_) channel_->close();
    services_.metrics.connections.fetch_sub(1, std::memory_order_relaxed);
}

void HttpConnection::stop() {
    asio::post(changed_.get_executor(), [self = shared_from_this()] {
        self->stopping_ = true;
        self->changed_.cancel();
        self->channel_->stop_waiting();
        if (const auto socket = self->web_socket_.lock()) socket->go_away();
    });
}

void HttpConnection::abort() {
    asio::post(changed_.get_executor(), [self = shared_from_this()] {
        self->stopping_ = true;
        self->aborted_ = true;
        self->changed_.cancel();
        self->cut_.cancel();
        if (!self->upgraded_) self->channel_->close();
        if (const auto socket = self->web_socket_.lock()) socket->abort();
    });
}

// A stream that can tell its client why is given a moment for it; any other is cut.
void HttpConnection::end_stream(Error why) {
    if (ending_) return;
    ending_ = std::move(why);
    changed_.cancel();
    const auto socket = web_socket_.lock();
    if (socket) socket->end(*ending_);
    if (socket || ends_itself_) {
        cut_.expires_after(farewell_limit);
    } else {
        cut_.cancel();
    }
}

Awaitable<bool> HttpConnection::serve_one() {
    const auto request = co_await channel_->read_head();
    if (request && !*request) co_return false;

    Ticket ticket{*this};
    Response response;
    cut_reason_ = Cut::none;
    if (request) {
        response = co_await answer(ticket);
    } else {
        const bool too_long = request.error().code == Errc::too_large;
        response = problem(too_long ? 431 : 400, noid::name_of(request.error().code), request.error().what,
                           ticket.record.id);
    }
    if (cut_reason_ == Cut::client_gone || cut_reason_ == Cut::aborted) {
        log(ticket, 499);
        co_return false;
    }
    if (response.sent) {
        log(ticket, ticket.streamed_status);
        co_return !upgraded_ && ticket.finished && channel_->keeps_alive() && !stopping_ &&
            channel_->body_read();
    }
    if (ticket.streaming() || upgraded_) {  // failed in the middle: only a closed connection can say so
        log(ticket, response.status);
        co_return false;
    }
    if (!request || !channel_->body_read() || stopping_) channel_->end_after_this();
    const auto written = co_await channel_->answer(response.status, lines_of(response, ticket.record.id),
                                                   std::move(response.body));
    log(ticket, response.status);
    if (written && !channel_->keeps_alive()) co_await channel_->linger();
    co_return written && channel_->keeps_alive();
}

Awaitable<Response> HttpConnection::answer(Ticket& ticket) {
    const RequestHead& head = channel_->head();
    const std::string& id = ticket.record.id;
    ticket.record.method = head.method;
    ticket.record.path = wire::clipped(head.target.substr(0, head.target.find('?')), 256);
    if (listening_ == Listening::main) {
        if (auto label = ingress::label_of_host(channel_->header("Host"), services_.config.server.domain))
            co_return co_await visit(ticket, std::move(*label));
    }
    const auto target = Target::parse(head.target);
    if (!target) co_return to_response(target.error(), id);

    const bool upgrade = equals_ignoring_case(channel_->header("Upgrade"), "websocket");
    const Routing routing = router_.route(head.method, *target, upgrade);
    const auto* match = std::get_if<Match>(&routing);
    Call call{services_, ticket, head.method, *target, id, nullptr, {}, {}};
    if (listening_ == Listening::main && !(match != nullptr && match->route->access == Access::open)) {
        auto outcome = services_.authenticator.authenticate(channel_->header("Authorization"),
                                                            counted_source(), Clock::now());
        if (const auto* refusal = std::get_if<Refusal>(&outcome)) co_return refusal_response(*refusal, id);
        call.tenant = std::get<std::shared_ptr<vm::Tenant>>(std::move(outcome));
        ticket.record.user = call.tenant->user_name();
    }
    if (std::holds_alternative<NoSuchPath>(routing)) {
        const bool nameless =
            target->trailing_slash && target->segments == std::vector<std::string>{"v1", "vms"};
        if (nameless) co_return problem(400, "invalid", "missing VM name in path", id);
        co_return problem(404, "not_found", "not found", id);
    }
    if (const auto* wrong = std::get_if<WrongMethod>(&routing)) {
        Response response = head.method == Method::options
                                ? Response::no_content()
                                : problem(405, "method_not_allowed",
                                          "method not allowed here (allowed: " + wrong->allow + ")", id);
        response.headers.emplace_back("Allow", wrong->allow);
        co_return response;
    }
    if (const auto* needs = std::get_if<NeedsUpgrade>(&routing)) {
        const std::string_view pattern = needs->route->pattern;
        Response response = problem(
            426, "upgrade_required",
            fmt::format("WebSocket upgrade required for GET {}", pattern.substr(pattern.rfind('/'))), id);
        response.headers.emplace_back("Upgrade", "websocket");
        co_return response;
    }
    call.parameters = match->parameters;
    co_return co_await run_endpoint(ticket, *match, call);
}

// A request whose host is the name of a guest's port. Never reaches the API.
Awaitable<Response> HttpConnection::visit(Ticket& ticket, std::string label) {
    auto decision = admit(services_, *channel_, label, counted_source(), ticket.record.id);
    if (auto* answer = std::get_if<Response>(&decision)) co_return std::move(*answer);
    const auto admission = std::get<Admission>(std::move(decision));
    ticket.record.path = wire::clipped(label + ticket.record.path, 256);
    if (!admission.user.empty()) ticket.record.user = admission.user;
    ends_itself_ = false;
    ending_.reset();
    const auto end = ending();
    const auto place = services_.visits.enter(*admission.vm, admission.port, [end] {
        end(Error{Errc::unavailable, "the port is published no more", {}});
    });
    if (!place) co_return problem(503, "unavailable", "too many connections to this VM", ticket.record.id);
    std::unique_ptr<OpenStreams::Entry> entry;
    if (!admission.user.empty()) entry = services_.streams.add(admission.user, end);
    auto led = co_await race(lead_into_guest(ticket, admission), false, std::nullopt);
    if (led) co_return std::move(*led);
    co_return to_response(led.error(), ticket.record.id);
}

Awaitable<Result<Response>> HttpConnection::lead_into_guest(Ticket& ticket, const Admission& admission) {
    auto guest = co_await ingress::GuestStream::connect(admission.vm, admission.port);
    if (!guest) co_return fail(Errc::unavailable, "the guest does not answer on this port");
    Forwarding forwarding;
    forwarding.client = counted_source();
    forwarding.protocol = protocol_of(services_, *channel_);
    forwarding.hide_authorization = admission.hide_authorization;
    forwarding.hidden_cookie = access_cookie;
    const auto forwarded = co_await forward(*channel_, **guest, forwarding);
    if (!forwarded) co_return fail(forwarded.error());
    ticket.streamed_status = forwarded->status == 0 ? 499 : forwarded->status;
    ticket.finished = forwarded->complete;
    co_return Response::already_sent();
}

// What a WebSocket's request must have; its answer when it has not.
std::optional<Response> HttpConnection::check_handshake(const Route& route,
                                                        std::string_view request_id) const {
    if (!route.web_socket) return std::nullopt;
    const auto lists_upgrade = [](std::string_view connection) {
        while (!connection.empty()) {
            const std::size_t comma = std::min(connection.find(','), connection.size());
            std::string_view token = connection.substr(0, comma);
            connection.remove_prefix(std::min(comma + 1, connection.size()));
            while (token.starts_with(' ') || token.starts_with('\t')) token.remove_prefix(1);
            while (token.ends_with(' ') || token.ends_with('\t')) token.remove_suffix(1);
            if (equals_ignoring_case(token, "upgrade")) return true;
        }
        return false;
    };
    if (channel_->head().http_1_0 || !lists_upgrade(channel_->header("Connection")) ||
        channel_->header("Sec-WebSocket-Key").empty() || channel_->has_more())
        return problem(400, "invalid", "malformed WebSocket handshake", request_id);
    if (channel_->header("Sec-WebSocket-Version") != "13") {
        Response response = problem(426, "upgrade_required", "WebSocket version must be 13", request_id);
        response.headers.emplace_back("Sec-WebSocket-Version", "13");
        return response;
    }
    return std::nullopt;
}

Awaitable<Response> HttpConnection::run_endpoint(Ticket& ticket, const Match& match, Call& call) {
    const Route& route = *match.route;
    const std::string& id = ticket.record.id;
    if (const auto coding = ticket.header("Content-Encoding"); !coding.empty() && coding != "identity")
        co_return problem(415, "unsupported_media_type", "request bodies must not be compressed", id);
    if (const auto expect = ticket.header("Expect");
        !expect.empty() && !equals_ignoring_case(expect, "100-continue"))
        co_return problem(417, "invalid", "cannot meet this expectation", id);
    if (auto refusal = check_handshake(route, id)) co_return std::move(*refusal);
    if (auto taken = co_await take_body(route, call); !taken) co_return unread_body(taken.error(), id);
    Result<Response> response;
    try {
        if (const auto* immediate = std::get_if<Immediate>(&route.endpoint)) {
            response = (*immediate)(call);
        } else {
            const Waiting endpoint = std::get<Waiting>(route.endpoint);
            const bool watch = route.input != Input::stream && !route.web_socket;
            if (route.deadline == Deadline::stream) {
                response = co_await run_stream(endpoint, call, watch);
            } else {
                std::optional<std::chrono::milliseconds> limit;
                if (route.deadline == Deadline::request) limit = services_.config.server.timeout;
                response = co_await race(endpoint(call), watch, limit);
            }
        }
    } catch (...) {
        // A bug in one endpoint costs one request; its caller learns no more than that.
        log::exception(route.pattern, std::current_exception());
        response = fail(Errc::internal, "internal error");
    }
    if (response) co_return std::move(*response);
    if (response.error().code == Errc::internal)
        log::error("request failed", {{"request", id}, {"error", response.error().full()}});
    co_return to_response(response.error(), id);
}

Awaitable<Result<void>> HttpConnection::take_body(const Route& route, Call& call) {
    if (route.input == Input::json) {
        auto body = co_await read_body(services_.config.limits.max_body_bytes);
        if (!body) co_return fail(std::move(body).error());
        call.body = std::move(*body);
    } else if (route.input == Input::none && !channel_->body_read()) {
        auto ignored = co_await read_body(most_ignored_body);
        if (!ignored) co_return fail(std::move(ignored).error());
    }
    co_return Result<void>{};
}

Awaitable<Result<std::string>> HttpConnection::read_body(std::uint64_t limit) {
    const auto too_large = [&] {
        return fail(Errc::too_large, fmt::format("request body too large (max {} bytes)", limit));
    };
    if (const auto length = channel_->head().content_length; length && *length > limit) co_return too_large();
    std::string body;
    while (true) {
        auto piece = co_await channel_->read_piece(false);
        if (!piece) co_return fail(std::move(piece).error());
        if (piece->empty()) co_return body;
        if (body.size() + piece->size() > limit) co_return too_large();
        body += *piece;
    }
}

// A stream lasts only as long as the token that opened it.
Awaitable<Result<Response>> HttpConnection::run_stream(Waiting endpoint, Call& call, bool watch_client) {
    ends_itself_ = false;
    ending_.reset();
    const auto entry = services_.streams.add(call.tenant->user_name(), ending());
    // The token may have changed between its check and this entry.
    if (auto still = services_.authenticator.check(channel_->header("Authorization")); !still)
        co_return fail(std::move(still).error());
    co_return co_await race(endpoint(call), watch_client, std::nullopt);
}

// Ends the stream that runs, from any thread.
OpenStreams::End HttpConnection::ending() {
    return [weak = weak_from_this(), executor = changed_.get_executor()](Error why) {
        asio::post(executor, [weak, why = std::move(why)]() mutable {
            if (const auto self = weak.lock()) self->end_stream(std::move(why));
        });
    };
}

// The endpoint against its deadline, the client's going away, the end of its token, and abort().
// Whoever is first, the endpoint has ended when this returns.
Awaitable<Result<Response>> HttpConnection::race(Awaitable<Result<Response>> work, bool watch_client,
                                                 std::optional<std::chrono::milliseconds> limit) {
    if (aborted_) co_return fail(Errc::cancelled, "the server stops");
    if (limit) {
        cut_.expires_after(*limit);
    } else {
        cut_.expires_at(asio::steady_timer::time_point::max());
    }
    const auto executor = cut_.get_executor();
    auto cut = [this]() -> Awaitable<void> {
        // A timer that was set anew, by end_stream(), wakes its waiter early.
        do {
            co_await cut_.async_wait(as_result);
        } while (ending_ && !aborted_ && cut_.expiry() > Clock::now() &&
                 cut_.expiry() != Clock::time_point::max());
    };
    auto group = asio::experimental::make_parallel_group(
        asio::co_spawn(executor, std::move(work), asio::deferred),
        asio::co_spawn(executor, cut(), asio::deferred),
        asio::co_spawn(executor, client_gone(watch_client), asio::deferred));
    auto [order, thrown, response, cut_thrown, gone_thrown] =
        co_await group.async_wait(asio::experimental::wait_for_one(), asio::use_awaitable);
    if (order[0] == 0) {
        if (thrown) std::rethrow_exception(thrown);
        co_return std::move(response);
    }
    if (order[0] == 1 && !aborted_) {
        cut_reason_ = ending_ ? Cut::ended : Cut::deadline;
        if (ending_) co_return fail(*ending_);
        co_return fail(Errc::timed_out, fmt::format("request timed out after {} ms", limit->count()));
    }
    cut_reason_ = aborted_ ? Cut::aborted : Cut::client_gone;
    co_return fail(Errc::cancelled, "the client went away");
}

Awaitable<void> HttpConnection::client_gone(bool watch) {
    if (watch) {
        co_await channel_->client_gone();
        co_return;
    }
    asio::steady_timer never{changed_.get_executor(), asio::steady_timer::time_point::max()};
    co_await never.async_wait(asio::use_awaitable);
}

void HttpConnection::log(const Ticket& ticket, unsigned status) const {
    services_.metrics.count_request(status);
    log_request(ticket.record, status, peer_.text, ticket.header("X-Forwarded-For"));
}

std::string HttpConnection::counted_source() const {
    if (services_.config.server.trust_forwarded_for) {
        // The nearest proxy's entry is the last one of the last header.
        std::string_view last;
        for (const HeaderField& field : channel_->headers()) {
            if (equals_ignoring_case(field.name, "X-Forwarded-For")) last = field.value;
        }
        auto address = forwarded_address(last);
        if (!address.empty()) return address;
    }
    return peer_.address;
}

}  // namespace

std::shared_ptr<Connection> Connection::create(asio::generic::stream_protocol::socket socket, Peer peer,
                                               Listening listening, Services& services,
                                               const Router& router) {
    return std::make_shared<HttpConnection>(std::move(socket), std::move(peer), listening, services, router);
}

}  // namespace noid::api
