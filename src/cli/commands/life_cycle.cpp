#include <fmt/format.h>

#include <boost/json/serialize.hpp>

#include "cli/commands/execute.hpp"
#include "cli/vm_policy.hpp"
#include "cli/vm_request.hpp"

// start, stop, pause, resume and suspend: each is one request and one sentence.
namespace noid::cli {

Awaitable<Result<int>> execute(const Context& context, Start command) {
    co_return co_await change_state(context, command.vm, "start", "Starting", "started");
}

Awaitable<Result<int>> execute(const Context& context, Stop command) {
    co_return co_await change_state(context, command.vm, command.force ? "stop?force=true" : "stop",
                                    "Stopping", "stopped");
}

Awaitable<Result<int>> execute(const Context& context, Pause command) {
    co_return co_await change_state(context, command.vm, "pause", "Pausing", "paused");
}

Awaitable<Result<int>> execute(const Context& context, Resume command) {
    co_return co_await change_state(context, command.vm, "resume", "Resuming", "resumed");
}

Awaitable<Result<int>> execute(const Context& context, Suspend command) {
    if (command.idle) {
        auto vm = find_vm(context, command.vm);
        if (!vm) co_return fail(vm.error());
        VmPolicyChange change;
        change.idle_suspend = command.idle;
        auto policy = co_await change_policy(*vm, change);
        if (!policy) co_return fail(policy.error());
        if (context.json) {
            print_line(boost::json::serialize(*policy));
        } else if (command.idle->length) {
            print_line(fmt::format("VM '{}' is suspended whenever it was idle for {} s", vm->name,
                                   command.idle->length->count()));
        } else {
            print_line(fmt::format("VM '{}' is no longer suspended by itself", vm->name));
        }
        co_return 0;
    }
    co_return co_await change_state(context, command.vm, "suspend", "Suspending", "suspended");
}

}  // namespace noid::cli
