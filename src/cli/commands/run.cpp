#include <fmt/format.h>

#include <exception>

#include "base/random.hpp"
#include "cli/commands/execute.hpp"
#include "cli/exec_request.hpp"
#include "cli/failure.hpp"
#include "cli/progress.hpp"
#include "cli/vm_creation.hpp"
#include "cli/vm_request.hpp"

namespace noid::cli {
namespace {

Awaitable<Result<int>> create_and_run(const Context& context, const VmOnServer& vm, wire::CreateVm request,
                                      CommandOptions options) {
    auto created = co_await create_vm(context, vm.client, std::move(request));
    if (!created) co_return fail(created.error());
    co_return co_await run_command(context, vm, std::move(options));
}

Awaitable<void> destroy(const Context& context, const VmOnServer& vm) {
    Result<HttpAnswer> answer;
    {
        const Spinner spinner{context.executor, fmt::format("Destroying VM '{}'", vm.name),
                              can_draw_progress(context.json)};
        answer = co_await vm.client.call(HttpRequest{HttpMethod::delete_, vm.target});
    }
    if (!answer) {
        print_notice(
            fmt::format("warning: VM '{0}' may still be there ({1}). Remove it with: noid destroy {0}",
                        vm.name, answer.error().what));
    }
}

}  // namespace

Awaitable<Result<int>> execute(const Context& context, Run command) {
    const auto name = command.name.empty() ? "run-" + random_hex(4) : command.name;
    auto request = creation_request(name, command.shape);
    if (!request) co_return fail(request.error());
    // A mistake in the command's own options shows before a VM is made for it.
    if (auto valid = exec_request(command.options); !valid) co_return fail(valid.error());
    auto vm = find_vm(context, name);
    if (!vm) co_return fail(vm.error());

    Result<int> result = fail(Errc::cancelled, "cancelled");
    std::exception_ptr thrown;
    try {
        result = co_await create_and_run(context, *vm, std::move(*request), std::move(command.options));
    } catch (...) {
        thrown = std::current_exception();  // cancelled by a signal
    }
    // A name that was taken belongs to a VM that is not ours.
    const bool ours = thrown || result || result.error().code != Errc::conflict;
    if (ours && !command.keep) {
        co_await ignore_cancellation();
        co_await destroy(context, *vm);
    } else if (ours && command.keep) {
        print_notice(fmt::format("VM '{0}' is kept. Remove it with: noid destroy {0}", name));
    }
    if (thrown) std::rethrow_exception(thrown);
    co_return result;
}

}  // namespace noid::cli
