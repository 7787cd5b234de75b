#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>

#include "api/endpoint_input.hpp"
#include "api/endpoints.hpp"
#include "api/exec_session.hpp"
#include "api/guest_session.hpp"
#include "wire/exec.hpp"
#include "wire/signals.hpp"

namespace noid::api {

namespace {

using channel::Session;
using namespace std::chrono_literals;

// The guest ends a command at its time limit; when it does not say so by then, we do.
constexpr auto guest_grace = 5s;

// A command's output up to the bound, and its end.
class Collector {
  public:
    Collector(asio::any_io_executor strand, std::shared_ptr<Session> session, bool separate)
        : strand_{std::move(strand)}, session_{std::move(session)} {
        if (separate) response_.err.emplace();
    }

    Awaitable<Result<bool>> run(std::optional<std::string> input) {
        if (!input) co_return co_await collect();
        const auto executor = co_await asio::this_coro::executor;
        auto group =
            asio::experimental::make_parallel_group(asio::co_spawn(executor, collect(), asio::deferred),
                                                    asio::co_spawn(executor, feed(*input), asio::deferred));
        auto [order, thrown, collected, feed_thrown] =
            co_await group.async_wait(asio::experimental::wait_for_one(), asio::use_awaitable);
        const std::exception_ptr first = order[0] == 0 ? thrown : feed_thrown;
        if (first) std::rethrow_exception(first);
        co_return std::move(collected);
    }

    [[nodiscard]] wire::ExecResponse take() { return std::move(response_); }

  private:
    Awaitable<Result<bool>> collect() {
        while (true) {
            auto event = co_await next_event(strand_, session_);
            if (!event) co_return fail(std::move(event).error());
            if (const auto* output = std::get_if<Session::Output>(&*event)) {
                keep(*output);
            } else if (std::holds_alternative<Session::Dropped>(*event)) {
                response_.truncated = true;
            } else if (const auto* ended = std::get_if<Session::Ended>(&*event)) {
                auto end = command_end(*ended);
                if (!end) co_return fail(std::move(end).error());
                (response_.err ? *response_.err : response_.out) += end->complaint;
                response_.exit_code = end->result.exit_code;
                response_.signal = end->result.signal;
                response_.timed_out = end->result.timed_out;
                co_return true;
            }
        }
    }

    void keep(const Session::Output& output) {
        const std::uint64_t room = wire::max_exec_output - kept_;
        const std::size_t taken = std::min<std::uint64_t>(room, output.bytes.size());
        if (taken < output.bytes.size()) response_.truncated = true;
        const bool to_error = output.stream == proto::OutputStream::err && response_.err;
        (to_error ? *response_.err : response_.out).append(output.bytes, 0, taken);
        kept_ += taken;
        acknowledge(strand_, session_, output.stream, output.offset + output.bytes.size());
    }

    // Never returns: the command's end decides.
    Awaitable<void> feed(std::string_view input) {
        co_await send_input(strand_, session_, input);
        co_await wait_for_cancellation();
    }

    asio::any_io_executor strand_;
    std::shared_ptr<Session> session_;
    wire::ExecResponse response_;
    std::uint64_t kept_ = 0;
};

// Starts a command that nobody waits for. Its input, when it was given, is on its way to the guest when
// this answers; with `stream_stdin` it comes from whoever attaches.
Awaitable<Result<Response>> start_detached(vm::Vm& machine, std::shared_ptr<Session> session,
                                           const std::optional<std::string>& input) {
    SessionGuard guard{machine.strand(), session};
    wire::ExecStarted started{proto::to_string(session->id()), 0};
    for (bool opened = false; !opened;) {
        auto event = co_await next_event(machine.strand(), session);
        if (!event) co_return fail(std::move(event).error());
        if (const auto* facts = std::get_if<Session::Opened>(&*event)) {
            started.pid = facts->pid;
            opened = true;
        } else if (const auto* ended = std::get_if<Session::Ended>(&*event)) {
            guard.on_exit(SessionGuard::Leave::nothing);
            auto end = command_end(*ended);
            if (!end) co_return fail(std::move(end).error());
            if (end->complaint.empty()) co_return fail(Errc::corrupt, "the guest started nothing");
            co_return fail(Errc::not_found, end->complaint.substr(0, end->complaint.size() - 1));
        }
    }
    if (input) co_await send_input(machine.strand(), session, *input);
    guard.on_exit(SessionGuard::Leave::detach);
    co_return json_response(wire::to_json(started), 202);
}

wire::SessionInfo to_wire(const proto::SessionInfo& info) {
    wire::SessionInfo out;
    out.id = proto::to_string(info.id);
    out.kind = info.kind;
    out.command = info.command;
    out.label = info.label;
    out.pid = info.pid;
    out.tty = info.tty;
    out.attached = info.attached;
    out.started_unix = info.started;
    out.stdout_bytes = info.produced.out;
    out.stderr_bytes = info.produced.err;
    out.stdout_dropped = info.dropped.out;
    out.stderr_dropped = info.dropped.err;
    if (info.ended) {
        wire::ExecResult result;
        if (const auto end = command_end(*info.ended)) result = end->result;
        result.truncated = info.dropped.out + info.dropped.err > 0;
        out.ended = result;
    }
    return out;
}

// Does something to a session without taking it from a client that is attached to it.
template <class Action>
Awaitable<Result<void>> act_on_session(Call& call, Action action) {
    const auto machine = find_vm(call);
    if (!machine) co_return fail(machine.error());
    const auto id = session_id(call);
    if (!id) co_return fail(id.error());
    const auto strand = (*machine)->strand();
    if (auto live = call.services.live_sessions.find(**machine, *id)) {
        auto act = [live, &action]() -> Awaitable<Result<void>> {
            action(*live);
            co_return Result<void>{};
        };
        co_return co_await on_strand(strand, std::move(act));
    }
    // Nobody has it: take it for a moment. Its output stays unacknowledged, so nothing of it is lost.
    auto session = co_await (*machine)->attach(*id, {});
    if (!session) co_return fail(std::move(session).error());
    auto act = [taken = *session, &action]() -> Awaitable<Result<void>> {
        if (action(*taken) == SessionGuard::Leave::detach) taken->detach();
        co_return Result<void>{};
    };
    co_return co_await on_strand(strand, std::move(act));
}

}  // namespace

Awaitable<Result<Response>> exec(Call& call) {
    const auto machine = find_vm(call);
    if (!machine) co_return fail(machine.error());
    auto request = read_json<wire::ExecRequest>(call);
    if (!request) co_return fail(std::move(request).error());
    if (auto checked = request->check(); !checked) co_return fail(std::move(checked).error());
    if (request->command.empty()) co_return fail(Errc::invalid, "command cannot be empty");
    std::chrono::milliseconds limit = call.services.config.server.exec_timeout;
    if (request->detach) limit = 0ms;
    if (request->timeout_ms) limit = std::chrono::milliseconds{*request->timeout_ms};
    auto session = co_await (*machine)->open(session_spec(*request, Transport::rest, limit));
    if (!session) co_return fail(std::move(session).error());
    if (request->detach) co_return co_await start_detached(**machine, *session, request->input);

    const auto listing = call.services.live_sessions.list(**machine, *session, (*session)->id());
    SessionGuard guard{(*machine)->strand(), *session};
    Collector collector{(*machine)->strand(), *session, request->separate};
    const auto collected = co_await within(limit + guest_grace, collector.run(std::move(request->input)));
    if (!collected && collected.error().code != Errc::timed_out) {
        guard.on_exit(SessionGuard::Leave::nothing);
        co_return fail(collected.error());
    }
    if (collected) guard.on_exit(SessionGuard::Leave::nothing);
    wire::ExecResponse response = collector.take();
    if (!collected) response.timed_out = true;
    co_return json_response(wire::to_json(response, request->encoding));
}

Awaitable<Result<Response>> list_sessions(Call& call) {
    const auto machine = find_vm(call);
    if (!machine) co_return fail(machine.error());
    const auto sessions = co_await (*machine)->sessions();
    if (!sessions) co_return fail(sessions.error());
    boost::json::array list;
    for (const proto::SessionInfo& info : *sessions) list.emplace_back(wire::to_json(to_wire(info)));
    co_return json_response(list);
}

Awaitable<Result<Response>> delete_session(Call& call) {
    auto cancel = [](Session& session) {
        session.cancel();
        return SessionGuard::Leave::nothing;
    };
    if (auto cancelled = co_await act_on_session(call, std::move(cancel)); !cancelled)
        co_return fail(std::move(cancelled).error());
    co_return Response::no_content();
}

Awaitable<Result<Response>> signal_session(Call& call) {
    auto body = wire::parse_json(call.body);
    if (!body) co_return fail(std::move(body).error().at("invalid request body"));
    wire::FieldReader fields{*body};
    std::string text;
    if (const auto* number = fields.find("signal"); number != nullptr && number->is_int64()) {
        text = std::to_string(number->get_int64());
    } else {
        fields.required("signal", text);
    }
    const auto number = wire::parse_signal(text);
    if (!number) fields.must_be("signal", "a signal's name or number");
    if (auto read = fields.done(); !read) co_return fail(std::move(read).error().at("invalid request body"));
    auto send = [number = *number](Session& session) {
        session.signal(number);
        return SessionGuard::Leave::detach;
    };
    if (auto sent = co_await act_on_session(call, std::move(send)); !sent)
        co_return fail(std::move(sent).error());
    co_return Response::no_content();
}

}  // namespace noid::api
