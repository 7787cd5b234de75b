#include <fmt/format.h>

#include <boost/json/serialize.hpp>

#include "cli/commands/execute.hpp"
#include "cli/failure.hpp"
#include "cli/progress.hpp"
#include "cli/table.hpp"
#include "cli/vm_request.hpp"
#include "wire/checkpoint.hpp"
#include "wire/names.hpp"
#include "wire/vm.hpp"

// checkpoint, checkpoints, restore and fork: saving a VM and going back to what was saved.
namespace noid::cli {
namespace {

using namespace std::chrono_literals;

constexpr auto saving_limit = 300'000ms;

// A POST that takes a while, and its JSON answer.
Awaitable<Result<boost::json::value>> post(const Context& context, const VmOnServer& vm,
                                           std::string_view rest, boost::json::object body, std::string doing,
                                           std::string what) {
    const Spinner spinner{context.executor, std::move(doing), can_draw_progress(context.json)};
    co_return co_await vm.client.call_json({.method = HttpMethod::post,
                                            .target = fmt::format("{}/{}", vm.target, rest),
                                            .body = boost::json::serialize(body),
                                            .read_timeout = saving_limit},
                                           std::move(what));
}

}  // namespace

Awaitable<Result<int>> execute(const Context& context, Checkpoint command) {
    auto vm = find_vm(context, command.vm);
    if (!vm) co_return fail(vm.error());
    wire::CreateCheckpoint request;
    request.label = command.label;
    request.name = command.name;
    auto answer = co_await post(context, *vm, "checkpoints", wire::to_json(request),
                                fmt::format("Saving VM '{}'", vm->name), "checkpoint");
    if (!answer) co_return fail(answer.error());
    auto saved = read_answer<wire::CheckpointInfo>(*answer, "checkpoint");
    if (!saved) co_return fail(saved.error());
    if (context.json) {
        print_line(boost::json::serialize(*answer));
    } else {
        const auto label = saved->label ? fmt::format(" (label: {})", printable(*saved->label)) : "";
        print_line(fmt::format("Checkpoint '{}' created{}", printable(saved->id), label));
    }
    co_return 0;
}

Awaitable<Result<int>> execute(const Context& context, Checkpoints command) {
    auto vm = find_vm(context, command.vm);
    if (!vm) co_return fail(vm.error());
    auto answer = co_await vm->client.call_json({.target = vm->target + "/checkpoints"}, "checkpoint list");
    if (!answer) co_return fail(answer.error());
    auto checkpoints = read_list<wire::CheckpointInfo>(*answer, "checkpoint list");
    if (!checkpoints) co_return fail(checkpoints.error());
    if (context.json) {
        print_line(boost::json::serialize(*answer));
        co_return 0;
    }
    if (checkpoints->empty()) {
        print_line(fmt::format("No checkpoints for VM '{}'.", vm->name));
        co_return 0;
    }
    Table table{{"id", "label", "created"}};
    for (const auto& each : *checkpoints) table.add({each.id, each.label.value_or("-"), each.created_at});
    print(table.text());
    co_return 0;
}

Awaitable<Result<int>> execute(const Context& context, Restore command) {
    auto vm = find_vm(context, command.vm);
    if (!vm) co_return fail(vm.error());
    if (command.as) {
        if (auto valid = wire::check_vm_name(*command.as); !valid) co_return fail(valid.error());
    }
    const wire::RestoreCheckpoint request{command.checkpoint, command.as};
    auto answer = co_await post(context, *vm, "restore", wire::to_json(request),
                                fmt::format("Restoring VM '{}'", command.as.value_or(vm->name)), "VM");
    if (!answer) co_return fail(answer.error());
    auto restored = read_answer<wire::VmInfo>(*answer, "VM");
    if (!restored) co_return fail(restored.error());
    if (context.json) {
        print_line(boost::json::serialize(*answer));
    } else {
        print_line(fmt::format("VM '{}' restored from checkpoint '{}'", command.as.value_or(vm->name),
                               command.checkpoint));
    }
    co_return 0;
}

Awaitable<Result<int>> execute(const Context& context, Fork command) {
    auto vm = find_vm(context, command.vm);
    if (!vm) co_return fail(vm.error());
    for (const auto& name : command.as) {
        if (auto valid = wire::check_vm_name(name); !valid) co_return fail(valid.error());
    }
    boost::json::object request{{"count", command.as.empty() ? command.count : command.as.size()}};
    if (!command.as.empty()) request["names"] = boost::json::array(command.as.begin(), command.as.end());
    auto answer = co_await post(context, *vm, "fork", std::move(request),
                                fmt::format("Cloning VM '{}'", vm->name), "VM list");
    if (!answer) co_return fail(answer.error());
    auto clones = read_list<wire::VmInfo>(*answer, "VM list");
    if (!clones) co_return fail(clones.error());
    if (context.json) {
        print_line(boost::json::serialize(*answer));
        co_return 0;
    }
    for (const auto& clone : *clones)
        print_line(fmt::format("VM '{}' created from VM '{}'", clone.name, vm->name));
    co_return 0;
}

}  // namespace noid::cli
