#include <fmt/chrono.h>
#include <fmt/format.h>

#include <boost/json/serialize.hpp>
#include <ctime>

#include "cli/commands/execute.hpp"
#include "cli/table.hpp"
#include "cli/vm_request.hpp"
#include "wire/exec.hpp"

namespace noid::cli {
namespace {

std::string state_of(const wire::SessionInfo& session) {
    if (!session.ended) return session.attached ? "attached" : "detached";
    if (session.ended->timed_out) return "timed out";
    if (session.ended->exit_code) return fmt::format("exited {}", *session.ended->exit_code);
    return "killed";
}

std::string utc_time(std::int64_t seconds) {
    if (seconds <= 0) return "-";
    return fmt::format("{:%Y-%m-%d %H:%M:%S}", fmt::gmtime(static_cast<std::time_t>(seconds)));
}

}  // namespace

Awaitable<Result<int>> execute(const Context& context, Ps command) {
    auto vm = find_vm(context, command.vm);
    if (!vm) co_return fail(vm.error());
    auto sessions = co_await ask_list<wire::SessionInfo>(
        *vm, HttpRequest{HttpMethod::get, vm->target + "/sessions"}, "session list");
    if (!sessions) co_return fail(sessions.error());
    if (context.json) {
        print_line(boost::json::serialize(sessions->json));
        co_return 0;
    }
    if (sessions->value.empty()) {
        print_line(fmt::format("No commands run in VM '{}'.", vm->name));
        co_return 0;
    }
    Table table{{"session", "state", "pid", "started", "label", "command"}};
    for (const auto& each : sessions->value) {
        table.add({each.id, state_of(each), each.pid ? std::to_string(each.pid) : "-",
                   utc_time(each.started_unix), each.label.empty() ? "-" : each.label,
                   each.command.empty() ? each.kind : each.command});
    }
    print(table.text());
    co_return 0;
}

}  // namespace noid::cli
