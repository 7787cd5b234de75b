#include <fmt/format.h>

#include <boost/json/serialize.hpp>
#include <utility>

#include "cli/checkpoint_request.hpp"
#include "cli/commands/execute.hpp"
#include "cli/failure.hpp"
#include "cli/progress.hpp"
#include "cli/table.hpp"
#include "cli/vm_policy.hpp"
#include "cli/vm_request.hpp"
#include "wire/checkpoint.hpp"

// checkpoint create, list, info, rename, delete, prune: saving VMs and seeing to what was saved.
namespace noid::cli {
namespace {

std::string text_or_dash(const std::optional<std::string>& text) {
    return text.value_or("-");
}
std::string size_or_dash(const std::optional<std::uint64_t>& bytes) {
    return bytes ? human_size(*bytes) : "-";
}

// The table of the original's `checkpoints`, which scripts read.
std::string brief_table(const std::vector<wire::CheckpointInfo>& checkpoints) {
    Table table{{"id", "label", "created"}};
    for (const auto& each : checkpoints) table.add({each.id, text_or_dash(each.label), each.created_at});
    return table.text();
}

std::string detailed_table(const std::vector<wire::CheckpointInfo>& checkpoints) {
    Table table{{"id", "name", "label", "created", "parent", "size", "on disk"}};
    for (const auto& each : checkpoints) {
        table.add({each.id, text_or_dash(each.name), text_or_dash(each.label), each.created_at,
                   text_or_dash(each.parent), human_size(each.logical_bytes),
                   size_or_dash(each.disk_used_bytes)});
    }
    return table.text();
}

void print_field(std::string_view name, std::string_view value) {
    if (!value.empty()) print_line(fmt::format("{:<11}{}", fmt::format("{}:", name), printable(value)));
}

void print_details(const wire::CheckpointInfo& checkpoint) {
    print_field("ID", checkpoint.id);
    print_field("VM", checkpoint.vm_name);
    print_field("Name", checkpoint.name.value_or(""));
    print_field("Label", checkpoint.label.value_or(""));
    print_field("Created", checkpoint.created_at + (checkpoint.automatic ? " (by the server)" : ""));
    print_field("Parent", checkpoint.parent.value_or(""));
    if (checkpoint.cpus > 0) print_field("CPUs", fmt::format("{}", checkpoint.cpus));
    if (checkpoint.mem_mib > 0)
        print_field("Memory", checkpoint.has_memory ? fmt::format("{} MiB", checkpoint.mem_mib)
                                                    : "none: the VM was not running, restoring boots");
    if (checkpoint.disk_mib > 0) print_field("Disk", fmt::format("{} MiB", checkpoint.disk_mib));
    print_field("Size", human_size(checkpoint.logical_bytes));
    print_field("Written", human_size(checkpoint.written_bytes));
    if (checkpoint.disk_used_bytes) print_field("On disk", human_size(*checkpoint.disk_used_bytes));
    print_field("Pause", fmt::format("{:.1f} ms", static_cast<double>(checkpoint.paused_us) / 1000));
    print_field("VMM", checkpoint.vmm);
    print_field("Obstacle", checkpoint.obstacle);
}

Awaitable<Result<int>> schedule(const Context& context, const VmOnServer& vm, const Checkpoint& command) {
    VmPolicyChange change;
    change.checkpoint_every = command.every;
    change.checkpoint_keep = command.keep;
    auto policy = co_await change_policy(vm, change);
    if (!policy) co_return fail(policy.error());
    if (context.json) {
        print_line(boost::json::serialize(*policy));
    } else if (command.every->length) {
        print_line(
            fmt::format("VM '{}' is saved every {} s from now on", vm.name, command.every->length->count()));
    } else {
        print_line(fmt::format("VM '{}' is no longer saved by itself", vm.name));
    }
    co_return 0;
}

}  // namespace

Awaitable<Result<int>> execute(const Context& context, Checkpoint command) {
    auto vm = find_vm(context, command.vm);
    if (!vm) co_return fail(vm.error());
    if (command.every) co_return co_await schedule(context, *vm, command);
    wire::CreateCheckpoint body;
    body.label = command.label;
    body.name = command.name;
    HttpRequest request{HttpMethod::post, vm->target + "/checkpoints",
                        boost::json::serialize(wire::to_json(body))};
    request.read_timeout = saving_limit;
    auto answer = co_await call_with_spinner(context, *vm, std::move(request),
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
    auto answer = co_await vm->client.call_json(HttpRequest{HttpMethod::get, vm->target + "/checkpoints"},
                                                "checkpoint list");
    if (!answer) co_return fail(answer.error());
    auto checkpoints = read_list<wire::CheckpointInfo>(*answer, "checkpoint list");
    if (!checkpoints) co_return fail(checkpoints.error());
    if (context.json) {
        print_line(boost::json::serialize(*answer));
    } else if (checkpoints->empty()) {
        print_line(fmt::format("No checkpoints for VM '{}'.", vm->name));
    } else {
        print(command.details ? detailed_table(*checkpoints) : brief_table(*checkpoints));
    }
    co_return 0;
}

Awaitable<Result<int>> execute(const Context& context, ShowCheckpoint command) {
    auto vm = find_vm(context, command.vm);
    if (!vm) co_return fail(vm.error());
    auto answer = co_await vm->client.call_json(
        HttpRequest{HttpMethod::get, checkpoint_target(*vm, command.checkpoint)}, "checkpoint");
    if (!answer) co_return fail(answer.error());
    auto checkpoint = read_answer<wire::CheckpointInfo>(*answer, "checkpoint");
    if (!checkpoint) co_return fail(checkpoint.error());
    if (context.json) {
        print_line(boost::json::serialize(*answer));
    } else {
        print_details(*checkpoint);
    }
    co_return 0;
}

Awaitable<Result<int>> execute(const Context& context, RenameCheckpoint command) {
    auto vm = find_vm(context, command.vm);
    if (!vm) co_return fail(vm.error());
    const boost::json::object change{{"name", command.name}};
    HttpRequest request{HttpMethod::patch, checkpoint_target(*vm, command.checkpoint),
                        boost::json::serialize(change)};
    auto answer = co_await vm->client.call_json(std::move(request), "checkpoint");
    if (!answer) co_return fail(answer.error());
    if (context.json) {
        print_line(boost::json::serialize(*answer));
    } else if (command.name.empty()) {
        print_line(fmt::format("Checkpoint '{}' has no name any more", command.checkpoint));
    } else {
        print_line(fmt::format("Checkpoint '{}' renamed to '{}'", command.checkpoint, command.name));
    }
    co_return 0;
}

Awaitable<Result<int>> execute(const Context& context, DeleteCheckpoint command) {
    auto vm = find_vm(context, command.vm);
    if (!vm) co_return fail(vm.error());
    auto answer = co_await vm->client.call(
        HttpRequest{HttpMethod::delete_, checkpoint_target(*vm, command.checkpoint)});
    if (!answer) co_return fail(answer.error());
    if (context.json) {
        print_line(boost::json::serialize(
            boost::json::object{{"checkpoint", command.checkpoint}, {"deleted", true}}));
    } else {
        print_line(fmt::format("Checkpoint '{}' deleted", command.checkpoint));
    }
    co_return 0;
}

Awaitable<Result<int>> execute(const Context& context, PruneCheckpoints command) {
    if (!command.keep && !command.older_than)
        co_return fail(Errc::invalid, "say which go: --keep N, --older-than TIME, or both");
    auto vm = find_vm(context, command.vm);
    if (!vm) co_return fail(vm.error());
    boost::json::object rule;
    if (command.keep) rule["keep"] = *command.keep;
    if (command.older_than) {
        rule["older_than_s"] = std::chrono::ceil<std::chrono::seconds>(*command.older_than).count();
    }
    if (command.automatic_only) rule["automatic_only"] = true;
    HttpRequest request{HttpMethod::post, vm->target + "/checkpoints/prune", boost::json::serialize(rule)};
    request.read_timeout = saving_limit;
    auto answer = co_await call_with_spinner(context, *vm, std::move(request), "Removing checkpoints",
                                             "checkpoint list");
    if (!answer) co_return fail(answer.error());
    auto removed = read_list<wire::CheckpointInfo>(*answer, "checkpoint list");
    if (!removed) co_return fail(removed.error());
    if (context.json) {
        print_line(boost::json::serialize(*answer));
        co_return 0;
    }
    for (const auto& each : *removed) print_line(fmt::format("Checkpoint '{}' deleted", printable(each.id)));
    if (removed->empty()) print_line("No checkpoint had to go.");
    co_return 0;
}

}  // namespace noid::cli
