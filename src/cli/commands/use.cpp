#include <fmt/format.h>

#include <boost/json.hpp>

#include "cli/active_vm.hpp"
#include "cli/commands/execute.hpp"

namespace noid::cli {

Awaitable<Result<int>> execute(const Context& context, Use command) {
    if (auto written = set_active_vm(context.environment, command.name); !written)
        co_return fail(written.error());
    if (context.json) {
        print_line(boost::json::serialize(boost::json::object{{"active_vm", command.name}}));
    } else {
        print_line(fmt::format("Active VM set to '{}'", command.name));
    }
    co_return 0;
}

}  // namespace noid::cli
