#include <fmt/format.h>

#include <boost/json.hpp>

#include "cli/commands/execute.hpp"
#include "cli/progress.hpp"
#include "cli/vm_request.hpp"

namespace noid::cli {

Awaitable<Result<int>> execute(const Context& context, Destroy command) {
    auto vm = find_vm(context, command.vm);
    if (!vm) co_return fail(vm.error());
    Result<HttpAnswer> answer;
    {
        const Spinner spinner{context.executor, fmt::format("Destroying VM '{}'", vm->name),
                              can_draw_progress(context.json)};
        answer = co_await vm->client.call(HttpRequest{HttpMethod::delete_, vm->target});
    }
    if (!answer) co_return fail(answer.error());
    if (context.json) {
        print_line(boost::json::serialize(boost::json::object{{"name", vm->name}, {"destroyed", true}}));
    } else {
        print_line(fmt::format("VM '{}' destroyed", vm->name));
    }
    co_return 0;
}

}  // namespace noid::cli
