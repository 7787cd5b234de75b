#include "cli/arguments.hpp"
#include "cli/commands/execute.hpp"
#include "cli/completion_script.hpp"

namespace noid::cli {

Awaitable<Result<int>> execute(const Context&, Completion command) {
    print(completion_script(command.shell, describe_commands()));
    co_return 0;
}

}  // namespace noid::cli
