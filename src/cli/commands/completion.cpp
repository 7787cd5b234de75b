#include <boost/json.hpp>

#include "cli/arguments.hpp"
#include "cli/commands/execute.hpp"
#include "cli/completion_script.hpp"

namespace noid::cli {

Awaitable<Result<int>> execute(const Context& context, Completion command) {
    const auto script = completion_script(command.shell, describe_commands());
    if (context.json) {
        print_line(boost::json::serialize(boost::json::object{{"shell", command.shell}, {"script", script}}));
    } else {
        print(script);
    }
    co_return 0;
}

}  // namespace noid::cli
