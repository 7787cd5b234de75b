#include "cli/exec_request.hpp"

#include <boost/json/serialize.hpp>

#include "cli/commands/execute.hpp"
#include "cli/vm_request.hpp"

namespace noid::cli {
namespace {

Awaitable<Result<int>> start_detached(const Context& context, const VmOnServer& vm,
                                      const CommandOptions& options) {
    auto request = exec_request(options);
    if (!request) co_return fail(request.error());
    request->detach = true;
    request->separate = true;  // for who attaches
    HttpRequest http{HttpMethod::post, vm.target + "/exec", boost::json::serialize(wire::to_json(*request))};
    auto answer = co_await vm.client.call_json(std::move(http), "exec");
    if (!answer) co_return fail(answer.error());
    auto started = read_answer<wire::ExecStarted>(*answer, "exec");
    if (!started) co_return fail(started.error());
    print_line(context.json ? boost::json::serialize(*answer) : started->session);
    co_return 0;
}

}  // namespace

Awaitable<Result<int>> execute(const Context& context, Exec command) {
    if (command.options.command.empty() && !command.options.tty) {
        Console console{command.vm, command.options.env};
        co_return co_await execute(context, std::move(console));
    }
    auto vm = find_vm(context, command.vm);
    if (!vm) co_return fail(vm.error());
    if (command.detach) co_return co_await start_detached(context, *vm, command.options);
    co_return co_await run_command(context, std::move(*vm), std::move(command.options));
}

}  // namespace noid::cli
