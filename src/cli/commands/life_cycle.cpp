#include "cli/commands/execute.hpp"
#include "cli/vm_request.hpp"

// start, stop, pause, resume and suspend: each is one request and one sentence.
namespace noid::cli {

Awaitable<Result<int>> execute(const Context& context, Start command) {
    co_return co_await change_state(context, command.vm, "start", "Starting", "started");
}

Awaitable<Result<int>> execute(const Context& context, Stop command) {
    co_return co_await change_state(context, command.vm, "stop", "Stopping", "stopped",
                                    command.force ? R"({"force":true})" : "");
}

Awaitable<Result<int>> execute(const Context& context, Pause command) {
    co_return co_await change_state(context, command.vm, "pause", "Pausing", "paused");
}

Awaitable<Result<int>> execute(const Context& context, Resume command) {
    co_return co_await change_state(context, command.vm, "resume", "Resuming", "resumed");
}

Awaitable<Result<int>> execute(const Context& context, Suspend command) {
    co_return co_await change_state(context, command.vm, "suspend", "Suspending", "suspended");
}

}  // namespace noid::cli
