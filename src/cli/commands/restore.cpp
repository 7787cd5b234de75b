#include <fmt/format.h>

#include <boost/json/serialize.hpp>
#include <utility>

#include "cli/checkpoint_request.hpp"
#include "cli/commands/execute.hpp"
#include "cli/failure.hpp"
#include "wire/checkpoint.hpp"
#include "wire/names.hpp"
#include "wire/vm.hpp"

// restore and fork: VMs out of checkpoints.
namespace noid::cli {

Awaitable<Result<int>> execute(const Context& context, Restore command) {
    auto vm = find_vm(context, command.vm);
    if (!vm) co_return fail(vm.error());
    if (command.as) {
        if (auto valid = wire::check_vm_name(*command.as); !valid) co_return fail(valid.error());
    }
    wire::RestoreCheckpoint body;
    body.checkpoint_id = command.checkpoint;
    body.new_name = command.as;
    body.keep_present = !command.discard_present;
    HttpRequest request{HttpMethod::post, vm->target + "/restore",
                        boost::json::serialize(wire::to_json(body))};
    request.read_timeout = saving_limit;
    const auto name = command.as.value_or(vm->name);
    auto answer = co_await call_with_spinner(context, *vm, std::move(request),
                                             fmt::format("Restoring VM '{}'", name), "VM");
    if (!answer) co_return fail(answer.error());
    auto restored = read_answer<wire::VmInfo>(*answer, "VM");
    if (!restored) co_return fail(restored.error());
    for (const auto& warning : restored->warnings) print_notice("warning: " + printable(warning));
    if (context.json) {
        print_line(boost::json::serialize(*answer));
        co_return 0;
    }
    print_line(fmt::format("VM '{}' restored from checkpoint '{}'", name, command.checkpoint));
    if (const auto* kept = answer->get_object().if_contains("kept"); kept && kept->is_object()) {
        auto before = wire::CheckpointInfo::from_json(*kept);
        if (before) {
            print_notice(fmt::format("Before that it was saved: noid restore {} {} goes back there", vm->name,
                                     printable(before->id)));
        }
    }
    co_return 0;
}

Awaitable<Result<int>> execute(const Context& context, Fork command) {
    auto vm = find_vm(context, command.vm);
    if (!vm) co_return fail(vm.error());
    for (const auto& name : command.as) {
        if (auto valid = wire::check_vm_name(name); !valid) co_return fail(valid.error());
    }
    boost::json::object body;
    if (command.as.empty()) {
        body["count"] = command.count;
    } else {
        body["names"] = boost::json::array(command.as.begin(), command.as.end());
    }
    HttpRequest request{HttpMethod::post, vm->target + "/fork", boost::json::serialize(body)};
    request.read_timeout = saving_limit;
    auto answer = co_await call_with_spinner(context, *vm, std::move(request),
                                             fmt::format("Cloning VM '{}'", vm->name), "VM list");
    if (!answer) co_return fail(answer.error());
    auto clones = read_list<wire::VmInfo>(*answer, "VM list");
    if (!clones) co_return fail(clones.error());
    if (context.json) {
        print_line(boost::json::serialize(*answer));
        co_return 0;
    }
    for (const auto& clone : *clones)
        print_line(fmt::format("VM '{}' created from VM '{}'", printable(clone.name), vm->name));
    co_return 0;
}

}  // namespace noid::cli
