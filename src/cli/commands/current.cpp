#include <fmt/format.h>

#include <boost/json.hpp>

#include "cli/active_vm.hpp"
#include "cli/commands/execute.hpp"

namespace noid::cli {

Awaitable<Result<int>> execute(const Context& context, Current) {
    auto server = resolve_server(context.account, context.environment);
    if (!server) co_return fail(server.error());
    const auto active = find_active_vm(context.environment.working_directory);
    if (context.json) {
        boost::json::object out{{"server", server->text}, {"active_vm", nullptr}};
        if (active) out["active_vm"] = *active;
        print_line(boost::json::serialize(out));
        co_return 0;
    }
    print_line(fmt::format("Server: {}", server->text));
    print_line(fmt::format("Active VM: {}", active ? *active : "(none — run `noid use <name>`)"));
    co_return 0;
}

}  // namespace noid::cli
