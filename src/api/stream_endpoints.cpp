#include <boost/asio/as_tuple.hpp>
#include <limits>

#include "api/endpoint_input.hpp"
#include "api/endpoints.hpp"
#include "api/exec_session.hpp"
#include "api/guest_session.hpp"
#include "api/session_pipe.hpp"
#include "api/session_stream.hpp"
#include "wire/exec.hpp"
#include "wire/names.hpp"
#include "wire/stream.hpp"

namespace noid::api {

namespace {

constexpr std::uint64_t console_replay_bytes = 512;

// One of the server's WebSocket sessions, counted for as long as it lives.
class Slot {
  public:
    [[nodiscard]] static std::unique_ptr<Slot> take(Services& services) {
        auto& count = services.metrics.web_sockets;
        if (count.fetch_add(1, std::memory_order_relaxed) >= services.config.server.max_ws_sessions) {
            count.fetch_sub(1, std::memory_order_relaxed);
            return nullptr;
        }
        return std::unique_ptr<Slot>{new Slot{count}};
    }
    Slot(const Slot&) = delete;
    Slot& operator=(const Slot&) = delete;
    ~Slot() { count_.fetch_sub(1, std::memory_order_relaxed); }

  private:
    explicit Slot(std::atomic<std::int64_t>& count) : count_{count} {}
    std::atomic<std::int64_t>& count_;
};

Error too_many_sockets() {
    return Error{Errc::unavailable, "too many WebSocket sessions", {}};
}

Awaitable<void> refuse(WebSocket& socket, const Error& error) {
    const wire::ErrorBody body{wire::clipped(error.what, 1024), std::string{noid::name_of(error.code)}, {}};
    const auto sent = co_await socket.write_text(wire::to_text(body));
    if (sent) co_await socket.close();
}

// The first message of an exec: its request, checked. The original closes when it is not a text;
// here it is told why.
Awaitable<Result<wire::ExecRequest>> read_request(WebSocket& socket) {
    const auto message = co_await socket.read();
    if (!message) co_return fail(message.error());
    if (message->kind == WebSocket::Message::Kind::closed) co_return fail(Errc::cancelled, "closed");
    if (message->kind != WebSocket::Message::Kind::text)
        co_return fail(Errc::invalid, "invalid exec request: the first message must be text");
    auto value = wire::parse_json(message->data);
    if (!value) co_return fail(std::move(value).error().at("invalid exec request"));
    auto request = wire::ExecRequest::from_json(*value);
    if (!request) co_return fail(std::move(request).error().at("invalid exec request"));
    if (auto checked = request->check(); !checked) co_return fail(std::move(checked).error());
    co_return std::move(*request);
}

// Opens the session and joins it with the socket; whatever fails before is the caller's to tell.
Awaitable<Result<void>> run_exec(Call& call, WebSocket& socket) {
    auto request = co_await within(call.services.config.server.timeout, read_request(socket));
    if (!request) co_return fail(std::move(request).error());
    const auto machine = find_vm(call);
    if (!machine) co_return fail(machine.error());
    const std::chrono::milliseconds limit{request->timeout_ms.value_or(0)};
    auto session = co_await (*machine)->open(session_spec(*request, Transport::web_socket, limit));
    if (!session) co_return fail(std::move(session).error());
    const auto strand = (*machine)->strand();
    const auto listing = call.services.live_sessions.list(**machine, *session, (*session)->id());
    if (request->input) {
        // At most one request body: it fits into the window or is held by the session's writer.
        SessionGuard guard{strand, *session};
        co_await send_input(strand, *session, *request->input);
        guard.on_exit(SessionGuard::Leave::nothing);
    }
    const bool takes_input = request->stream_stdin || (request->tty && !request->input);
    co_await pipe_session(
        socket, strand, *session,
        {.resumable = request->resumable, .attached = false, .takes_input = takes_input, .begin = {}});
    co_return Result<void>{};
}

class ConsolePipe {
  public:
    ConsolePipe(WebSocket& socket, vm::Vm& machine, std::shared_ptr<vm::ConsoleReader> reader,
                std::chrono::seconds idle_limit, asio::any_io_executor executor)
        : socket_{socket},
          machine_{machine},
          reader_{std::move(reader)},
          idle_limit_{idle_limit},
          idle_{std::move(executor), idle_limit} {}

    Awaitable<void> run() {
        const auto executor = idle_.get_executor();
        auto group = asio::experimental::make_parallel_group(
            asio::co_spawn(executor, carry_output(), asio::deferred),
            asio::co_spawn(executor, carry_input(), asio::deferred),
            asio::co_spawn(executor, watch_idleness(), asio::deferred),
            asio::co_spawn(executor, socket_.keep_alive(), asio::deferred));
        const auto [order, output, input, idle, pings] =
            co_await group.async_wait(asio::experimental::wait_for_one(), asio::use_awaitable);
        const std::array<std::exception_ptr, 4> thrown{output, input, idle, pings};
        if (thrown[order[0]]) std::rethrow_exception(thrown[order[0]]);
    }

  private:
    Awaitable<void> carry_output() {
        while (true) {
            auto next = [this] { return reader_->next(); };
            const auto bytes = co_await on_strand(machine_.strand(), std::move(next));
            if (!bytes || bytes->empty()) break;  // the VM is gone
            used_ = true;
            if (auto sent = co_await socket_.write_binary(wire::Channel::output, *bytes); !sent) co_return;
        }
        co_await socket_.close();
    }

    Awaitable<void> carry_input() {
        while (true) {
            const auto message = co_await socket_.read();
            if (!message || message->kind == WebSocket::Message::Kind::closed) co_return;
            const std::string_view data = message->data;
            if (message->kind != WebSocket::Message::Kind::binary || data.size() < 2 ||
                data.front() != static_cast<char>(wire::Channel::input))
                continue;
            used_ = true;
            const auto written = co_await machine_.write_console(std::string{data.substr(1)});
            if (!written) {
                co_await refuse(socket_, written.error());
                co_return;
            }
        }
    }

    // Closes a console on which nothing moved for the limit.
    Awaitable<void> watch_idleness() {
        do {
            used_ = false;
            idle_.expires_after(idle_limit_);
            co_await idle_.async_wait(asio::use_awaitable);
        } while (used_);
        co_await socket_.close();
    }

    WebSocket& socket_;
    vm::Vm& machine_;
    std::shared_ptr<vm::ConsoleReader> reader_;
    std::chrono::seconds idle_limit_;
    asio::steady_timer idle_;
    bool used_ = false;
};

Result<proto::OutputOffsets> offsets(const Target& target) {
    constexpr std::uint64_t most = std::numeric_limits<std::int64_t>::max();
    const auto out = number_parameter(target, "stdout", 0, most);
    if (!out) return fail(out.error());
    const auto err = number_parameter(target, "stderr", 0, most);
    if (!err) return fail(err.error());
    return proto::OutputOffsets{out->value_or(0), err->value_or(0)};
}

}  // namespace

Awaitable<Result<Response>> exec_stream(Call& call) {
    const auto slot = Slot::take(call.services);
    if (!slot) co_return fail(too_many_sockets());
    auto socket = co_await call.exchange.upgrade();
    if (!socket) co_return Response::already_sent();
    // From here on errors are messages: existing clients look for them there.
    const auto ran = co_await run_exec(call, **socket);
    if (!ran) co_await refuse(**socket, ran.error());
    co_return Response::already_sent();
}

Awaitable<Result<Response>> attach_stream(Call& call) {
    const auto slot = Slot::take(call.services);
    if (!slot) co_return fail(too_many_sockets());
    const auto machine = find_vm(call);
    if (!machine) co_return fail(machine.error());
    const auto id = session_id(call);
    if (!id) co_return fail(id.error());
    const auto have = offsets(call.target);
    if (!have) co_return fail(have.error());
    auto session = co_await (*machine)->attach(*id, *have);
    if (!session) co_return fail(std::move(session).error());
    const auto strand = (*machine)->strand();
    SessionGuard guard{strand, *session};
    guard.on_exit(SessionGuard::Leave::release);
    const auto listing = call.services.live_sessions.list(**machine, *session, *id);
    auto socket = co_await call.exchange.upgrade();
    if (!socket) co_return Response::already_sent();
    guard.on_exit(SessionGuard::Leave::nothing);
    co_await pipe_session(**socket, strand, *session,
                          {.resumable = true, .attached = true, .takes_input = true, .begin = *have});
    co_return Response::already_sent();
}

Awaitable<Result<Response>> session_stream(Call& call, proto::Operation operation) {
    const auto slot = Slot::take(call.services);
    if (!slot) co_return fail(too_many_sockets());
    const auto machine = find_vm(call);
    if (!machine) co_return fail(machine.error());
    const auto hold = number_parameter(call.target, "hold_ms", 0, 3'600'000);
    if (!hold) co_return fail(hold.error());
    proto::SessionSpec spec;
    spec.operation = std::move(operation);
    if (*hold) spec.hold = std::chrono::milliseconds{**hold};
    auto session = co_await (*machine)->open(std::move(spec));
    if (!session) co_return fail(std::move(session).error());
    const auto strand = (*machine)->strand();
    SessionGuard guard{strand, *session};
    const auto listing = call.services.live_sessions.list(**machine, *session, (*session)->id());
    auto socket = co_await call.exchange.upgrade();
    if (!socket) co_return Response::already_sent();
    guard.on_exit(SessionGuard::Leave::nothing);
    co_await pipe_session(**socket, strand, *session,
                          {.resumable = true, .attached = false, .takes_input = true, .begin = {}});
    co_return Response::already_sent();
}

Awaitable<Result<Response>> tcp_stream(Call& call) {
    const auto port = number_parameter(call.target, "port", 1, 65535);
    if (!port) co_return fail(port.error());
    if (!*port) co_return fail(Errc::invalid, "parameter 'port' is missing");
    proto::TcpConnect connect;
    connect.port = static_cast<std::uint16_t>(**port);
    if (const auto host = call.target.find("host")) connect.host = *host;
    if (connect.host.empty() || connect.host.size() > 255)
        co_return fail(Errc::invalid, "parameter 'host' must have 1 to 255 bytes");
    proto::Operation operation = std::move(connect);
    co_return co_await session_stream(call, std::move(operation));
}

Awaitable<Result<Response>> console_stream(Call& call) {
    const auto slot = Slot::take(call.services);
    if (!slot) co_return fail(too_many_sockets());
    const auto machine = find_vm(call);
    if (!machine) co_return fail(machine.error());
    auto reader = co_await (*machine)->console(console_replay_bytes, true);
    if (!reader) co_return fail(std::move(reader).error());
    auto socket = co_await call.exchange.upgrade();
    if (!socket) co_return Response::already_sent();
    ConsolePipe pipe{**socket, **machine, std::move(*reader), call.services.config.server.console_timeout,
                     co_await asio::this_coro::executor};
    co_await pipe.run();
    co_return Response::already_sent();
}

namespace {

Awaitable<Result<bool>> copy_console(Exchange& exchange, asio::any_io_executor strand,
                                     std::shared_ptr<vm::ConsoleReader> reader) {
    while (true) {
        auto next = [reader] { return reader->next(); };
        const auto bytes = co_await on_strand(strand, std::move(next));
        if (!bytes || bytes->empty()) co_return true;
        if (auto written = co_await exchange.write(*bytes); !written)
            co_return fail(std::move(written).error());
    }
}

}  // namespace

Awaitable<Result<Response>> get_logs(Call& call) {
    const auto machine = find_vm(call);
    if (!machine) co_return fail(machine.error());
    constexpr std::uint64_t most = std::numeric_limits<std::int64_t>::max();
    const auto tail = number_parameter(call.target, "tail", 0, most);
    if (!tail) co_return fail(tail.error());
    const auto follow = flag_parameter(call.target, "follow");
    if (!follow) co_return fail(follow.error());
    auto reader = co_await (*machine)->console(tail->value_or(most), *follow);
    if (!reader) co_return fail(std::move(reader).error());
    if (auto started = co_await call.exchange.start(Response::text({}), std::nullopt); !started)
        co_return fail(std::move(started).error());
    if (call.method != Method::head) {
        const auto executor = co_await asio::this_coro::executor;
        auto group = asio::experimental::make_parallel_group(
            asio::co_spawn(executor, copy_console(call.exchange, (*machine)->strand(), *reader),
                           asio::deferred),
            asio::co_spawn(executor, call.exchange.ending(), asio::deferred));
        const auto [order, thrown, copied, ending_thrown, ending] =
            co_await group.async_wait(asio::experimental::wait_for_one(), asio::use_awaitable);
        if (order[0] == 0 && thrown) std::rethrow_exception(thrown);
        if (order[0] == 0 && !copied) co_return fail(copied.error());
        if (order[0] == 1 && !ending_thrown) {
            const std::string last_line = "\nnoid: this stream ends: " + ending.what + "\n";
            if (auto told = co_await call.exchange.write(last_line); !told)
                co_return fail(std::move(told).error());
        }
    }
    if (auto finished = co_await call.exchange.finish(); !finished)
        co_return fail(std::move(finished).error());
    co_return Response::already_sent();
}

}  // namespace noid::api
