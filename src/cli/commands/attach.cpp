#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <boost/json/serialize.hpp>

#include "cli/commands/execute.hpp"
#include "cli/exec_at_terminal.hpp"
#include "cli/task_group.hpp"
#include "cli/terminal.hpp"
#include "cli/vm_request.hpp"
#include "wire/exec.hpp"

namespace noid::cli {
namespace {

// The session whose id begins with `text`.
Result<wire::SessionInfo> choose_session(const std::vector<wire::SessionInfo>& sessions,
                                         const std::string& text, const std::string& vm) {
    const auto matches = [&](const wire::SessionInfo& each) { return each.id.starts_with(text); };
    const auto count = std::ranges::count_if(sessions, matches);
    if (count == 1) return *std::ranges::find_if(sessions, matches);
    if (count > 1)
        return fail(Errc::invalid,
                    fmt::format("'{}' is the beginning of {} sessions of VM '{}'", text, count, vm));
    return fail(Errc::not_found,
                fmt::format("VM '{0}' has no session '{1}'. `noid ps {0}` lists those it has", vm, text));
}

Awaitable<void> collect(RemoteSession& session, wire::Channel stream, std::string& kept, bool& truncated) {
    for (;;) {
        const auto bytes = co_await session.next_output(stream);
        if (bytes.empty()) co_return;
        const auto room = wire::max_exec_output - kept.size();
        truncated |= bytes.size() > room;
        kept.append(bytes, 0, room);
        session.written(stream, bytes.size());
    }
}

// Waits for the end and gives the outcome as one object, as `exec --json` does.
Awaitable<Result<int>> attach_for_json(const Context& context, RemoteSession::Options options,
                                       RemoteSession::Attach start) {
    RemoteSession session{context.executor, std::move(options)};
    wire::ExecResponse response;
    response.err.emplace();
    int ended_by = 0;
    const Signals::TakeOver take_over{context.signals, [&](int signal) {
                                          ended_by = signal;
                                          session.abandon();
                                      }};
    TaskGroup outputs{context.executor};
    outputs.spawn(collect(session, wire::Channel::output, response.out, response.truncated));
    outputs.spawn(collect(session, wire::Channel::error_output, *response.err, response.truncated));
    const auto ending = co_await session.run(std::move(start));
    co_await outputs.join();
    if (ended_by != 0) co_return 128 + ended_by;
    if (auto error = RemoteSession::error_of(ending)) co_return fail(std::move(*error));
    const auto* finished = std::get_if<RemoteSession::Finished>(&ending);
    if (!finished) co_return fail(Errc::internal, "the session ended without a result");
    response.exit_code = finished->result.exit_code;
    response.timed_out = finished->result.timed_out;
    response.signal = finished->result.signal;
    response.truncated |= finished->result.truncated;
    print_line(boost::json::serialize(wire::to_json(response, wire::Encoding::utf8)));
    co_return response.timed_out ? 124 : response.exit_code.value_or(255);  // 255: nobody knows
}

}  // namespace

Awaitable<Result<int>> execute(const Context& context, Attach command) {
    auto vm = find_vm(context, command.vm);
    if (!vm) co_return fail(vm.error());
    auto sessions = co_await ask_list<wire::SessionInfo>(
        *vm, HttpRequest{HttpMethod::get, vm->target + "/sessions"}, "session list");
    if (!sessions) co_return fail(sessions.error());
    auto session = choose_session(sessions->value, command.session, vm->name);
    if (!session) co_return fail(session.error());

    RemoteSession::Options options{.account = vm->client.account(), .vm = vm->name, .trace = context.trace()};
    RemoteSession::Attach start{session->id, command.have_out, command.have_err};
    if (context.json) co_return co_await attach_for_json(context, std::move(options), std::move(start));
    // Without a terminal on the other side our stdin may well be meant for somebody else; its end
    // would be the end of the command's.
    const bool input = session->tty && !command.no_input;
    auto outcome = co_await run_at_terminal(context, std::move(options), std::move(start),
                                            {.input = input, .tty = session->tty});
    if (!outcome) co_return fail(outcome.error());
    co_return report_outcome(*outcome, vm->name);
}

}  // namespace noid::cli
