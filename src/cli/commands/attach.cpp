#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "cli/commands/execute.hpp"
#include "cli/exec_at_terminal.hpp"
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

}  // namespace

Awaitable<Result<int>> execute(const Context& context, Attach command) {
    auto vm = find_vm(context, command.vm);
    if (!vm) co_return fail(vm.error());
    auto answer =
        co_await vm->client.call_json(HttpRequest{HttpMethod::get, vm->target + "/sessions"}, "session list");
    if (!answer) co_return fail(answer.error());
    auto sessions = read_list<wire::SessionInfo>(*answer, "session list");
    if (!sessions) co_return fail(sessions.error());
    auto session = choose_session(*sessions, command.session, vm->name);
    if (!session) co_return fail(session.error());

    RemoteSession::Options options{.account = vm->client.account(), .vm = vm->name, .trace = context.trace()};
    RemoteSession::Attach start{session->id, command.have_out, command.have_err};
    // Without a terminal on the other side our stdin may well be meant for somebody else; its end
    // would be the end of the command's.
    const bool input = session->tty && !command.no_input;
    auto outcome = co_await run_at_terminal(context, std::move(options), std::move(start),
                                            {.input = input, .tty = session->tty});
    if (!outcome) co_return fail(outcome.error());
    co_return report_outcome(*outcome, vm->name);
}

}  // namespace noid::cli
