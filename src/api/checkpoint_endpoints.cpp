#include <boost/json/array.hpp>
#include <chrono>

#include "api/endpoint_input.hpp"
#include "api/endpoints.hpp"
#include "api/vm_answer.hpp"
#include "wire/checkpoint.hpp"
#include "wire/names.hpp"

namespace noid::api {

namespace {

std::optional<std::string> unless_empty(std::string text) {
    if (text.empty()) return std::nullopt;
    return text;
}

wire::CheckpointInfo to_wire(vm::CheckpointView view) {
    wire::CheckpointInfo info;
    info.id = std::move(view.id);
    info.vm_name = std::move(view.vm_name);
    info.label = unless_empty(std::move(view.label));
    info.created_at = std::move(view.created_at);
    info.name = unless_empty(std::move(view.name));
    info.parent = unless_empty(std::move(view.parent));
    info.automatic = view.automatic;
    info.has_memory = view.has_memory;
    info.cpus = view.cpus;
    info.mem_mib = view.memory.count;
    info.disk_mib = view.disk.count;
    info.logical_bytes = view.logical_bytes;
    info.written_bytes = view.written_bytes;
    info.paused_us = static_cast<std::uint64_t>(std::max<std::int64_t>(view.paused.count(), 0));
    info.disk_used_bytes = view.disk_used;
    info.vmm = std::move(view.vmm);
    info.obstacle = std::move(view.obstacle);
    return info;
}

Response checkpoint_response(vm::CheckpointView view, unsigned status = 200) {
    return json_response(wire::to_json(to_wire(std::move(view))), status);
}

Response checkpoints_response(std::vector<vm::CheckpointView> views) {
    boost::json::array list;
    for (vm::CheckpointView& view : views) list.emplace_back(wire::to_json(to_wire(std::move(view))));
    return json_response(list);
}

std::string which(const Call& call) {
    return std::string{call.parameter("which")};
}

std::optional<std::chrono::seconds> to_seconds(std::optional<std::uint64_t> count) {
    if (!count) return std::nullopt;
    return std::chrono::seconds{*count};
}

std::optional<std::uint64_t> to_count(std::optional<std::chrono::seconds> period) {
    if (!period) return std::nullopt;
    return static_cast<std::uint64_t>(period->count());
}

Response policy_response(const vm::VmPolicy& policy) {
    const wire::VmPolicy out{to_count(policy.checkpoint_every), policy.checkpoint_keep,
                             to_count(policy.idle_suspend)};
    return json_response(wire::to_json(out));
}

}  // namespace

Awaitable<Result<Response>> list_checkpoints(Call& call) {
    const auto name = vm_name(call);
    if (!name) co_return fail(name.error());
    auto views = co_await call.tenant->checkpoints().list(*name);
    if (!views) co_return fail(std::move(views).error());
    co_return checkpoints_response(std::move(*views));
}

Awaitable<Result<Response>> create_checkpoint(Call& call) {
    const auto machine = find_vm(call);
    if (!machine) co_return fail(machine.error());
    vm::CheckpointRequest request;
    if (!call.body.empty()) {  // existing clients may send none
        auto body = read_json<wire::CreateCheckpoint>(call);
        if (!body) co_return fail(std::move(body).error());
        request.name = std::move(body->name).value_or("");
        request.label = std::move(body->label).value_or("");
    }
    const auto began = std::chrono::steady_clock::now();
    auto view = co_await (*machine)->checkpoint(std::move(request));
    if (!view) co_return fail(std::move(view).error());
    call.services.metrics.count_checkpoint(std::chrono::steady_clock::now() - began);
    co_return checkpoint_response(std::move(*view), 201);
}

Awaitable<Result<Response>> get_checkpoint(Call& call) {
    const auto name = vm_name(call);
    if (!name) co_return fail(name.error());
    auto view = co_await call.tenant->checkpoints().info(*name, which(call));
    if (!view) co_return fail(std::move(view).error());
    co_return checkpoint_response(std::move(*view));
}

Awaitable<Result<Response>> change_checkpoint(Call& call) {
    const auto name = vm_name(call);
    if (!name) co_return fail(name.error());
    auto request = read_json<wire::ChangeCheckpoint>(call);
    if (!request) co_return fail(std::move(request).error());
    vm::CheckpointChange change{std::move(request->name), std::move(request->label)};
    auto view = co_await call.tenant->checkpoints().change(*name, which(call), std::move(change));
    if (!view) co_return fail(std::move(view).error());
    co_return checkpoint_response(std::move(*view));
}

Awaitable<Result<Response>> delete_checkpoint(Call& call) {
    const auto name = vm_name(call);
    if (!name) co_return fail(name.error());
    auto removed = co_await call.tenant->checkpoints().remove(*name, which(call));
    if (!removed) co_return fail(std::move(removed).error());
    co_return Response::no_content();
}

Awaitable<Result<Response>> prune_checkpoints(Call& call) {
    const auto name = vm_name(call);
    if (!name) co_return fail(name.error());
    const auto request = read_json<wire::PruneCheckpoints>(call);
    if (!request) co_return fail(request.error());
    vm::PruneRule rule;
    if (request->keep) rule.keep = static_cast<std::size_t>(*request->keep);
    rule.older_than = to_seconds(request->older_than_s);
    rule.automatic_only = request->automatic_only;
    auto removed = co_await call.tenant->checkpoints().prune(*name, rule);
    if (!removed) co_return fail(std::move(removed).error());
    co_return checkpoints_response(std::move(*removed));
}

Awaitable<Result<Response>> export_checkpoint(Call& call) {
    const auto name = vm_name(call);
    if (!name) co_return fail(name.error());
    auto source = co_await call.tenant->checkpoints().export_stream(*name, which(call));
    if (!source) co_return fail(std::move(source).error());
    Response head;
    head.content_type = "application/octet-stream";
    if (auto started = co_await call.exchange.start(std::move(head), std::nullopt); !started)
        co_return fail(std::move(started).error());
    while (call.method != Method::head) {
        const auto bytes = co_await (*source)->next();
        if (!bytes) co_return fail(bytes.error());
        if (bytes->empty()) break;
        if (auto written = co_await call.exchange.write(*bytes); !written)
            co_return fail(std::move(written).error());
    }
    if (auto finished = co_await call.exchange.finish(); !finished)
        co_return fail(std::move(finished).error());
    co_return Response::already_sent();
}

Awaitable<Result<Response>> import_checkpoint(Call& call) {
    const auto name = vm_name(call);
    if (!name) co_return fail(name.error());
    vm::CheckpointRequest request{std::string{call.target.find("name").value_or("")},
                                  std::string{call.target.find("label").value_or("")}};
    auto sink = co_await call.tenant->checkpoints().import_stream(*name, std::move(request));
    if (!sink) co_return fail(std::move(sink).error());
    while (true) {
        auto piece = co_await call.exchange.read_some();
        if (!piece) co_return fail(std::move(piece).error());
        if (piece->empty()) break;
        if (auto written = co_await (*sink)->write(std::move(*piece)); !written)
            co_return fail(std::move(written).error());
    }
    auto view = co_await (*sink)->finish();
    if (!view) co_return fail(std::move(view).error());
    co_return checkpoint_response(std::move(*view), 201);
}

Awaitable<Result<Response>> restore_checkpoint(Call& call) {
    const auto name = vm_name(call);
    if (!name) co_return fail(name.error());
    auto request = read_json<wire::RestoreCheckpoint>(call);
    if (!request) co_return fail(std::move(request).error());
    if (request->new_name) {
        auto target = vm::VmName::parse(*request->new_name);
        if (!target) co_return fail(std::move(target).error());
        vm::CloneRequest wanted{std::move(request->checkpoint_id), std::move(*target)};
        auto made = co_await call.tenant->checkpoints().clone(*name, std::move(wanted));
        if (!made) co_return fail(std::move(made).error());
        co_return vm_response(std::move(*made));
    }
    vm::RestoreRequest wanted{std::move(request->checkpoint_id), request->keep_present};
    auto restored = co_await call.tenant->checkpoints().restore(*name, std::move(wanted));
    if (!restored) co_return fail(std::move(restored).error());
    auto body = wire::to_json(to_wire(std::move(restored->vm)));
    if (restored->kept) body.emplace("kept", wire::to_json(to_wire(std::move(*restored->kept))));
    co_return json_response(body);
}

Awaitable<Result<Response>> fork_vm(Call& call) {
    const auto name = vm_name(call);
    if (!name) co_return fail(name.error());
    const auto request = read_json<wire::ForkVm>(call);
    if (!request) co_return fail(request.error());
    vm::ForkRequest wanted;
    wanted.count = static_cast<std::size_t>(request->count.value_or(1));
    for (const std::string& text : request->names) {
        auto clone = vm::VmName::parse(text);
        if (!clone) co_return fail(std::move(clone).error());
        wanted.names.push_back(std::move(*clone));
    }
    auto made = co_await call.tenant->checkpoints().fork(*name, std::move(wanted));
    if (!made) co_return fail(std::move(made).error());
    boost::json::array list;
    for (vm::VmView& view : *made) list.emplace_back(wire::to_json(to_wire(std::move(view))));
    co_return json_response(list, 201);
}

Result<Response> get_policy(Call& call) {
    const auto machine = find_vm(call);
    if (!machine) return fail(machine.error());
    return policy_response((*machine)->policy());
}

Awaitable<Result<Response>> put_policy(Call& call) {
    const auto machine = find_vm(call);
    if (!machine) co_return fail(machine.error());
    const auto request = read_json<wire::VmPolicy>(call);
    if (!request) co_return fail(request.error());
    vm::VmPolicy policy;
    policy.checkpoint_every = to_seconds(request->checkpoint_every_s);
    policy.checkpoint_keep = static_cast<std::size_t>(request->checkpoint_keep);
    policy.idle_suspend = to_seconds(request->idle_suspend_s);
    if (auto set = co_await (*machine)->set_policy(policy); !set) co_return fail(std::move(set).error());
    co_return policy_response((*machine)->policy());
}

}  // namespace noid::api
