#include "wire/checkpoint.hpp"

namespace noid::wire {

namespace {

// A hundred years in seconds: sums with it stay far from any limit.
constexpr std::optional<std::uint64_t> longest_period = 100ULL * 366 * 24 * 3600;

// null where there is none: clients want the member to be there.
template <class T>
void put_nullable(json::object& out, std::string_view key, const std::optional<T>& value) {
    if (value) {
        out.emplace(key, *value);
    } else {
        out.emplace(key, nullptr);
    }
}

}  // namespace

Result<CheckpointInfo> CheckpointInfo::from_json(const json::value& value) {
    CheckpointInfo checkpoint;
    FieldReader fields{value};
    fields.required("id", checkpoint.id);
    fields.required("vm_name", checkpoint.vm_name);
    fields.optional("label", checkpoint.label);
    fields.required("created_at", checkpoint.created_at);
    fields.optional("name", checkpoint.name);
    fields.optional("parent", checkpoint.parent);
    fields.optional("automatic", checkpoint.automatic);
    fields.optional("has_memory", checkpoint.has_memory);
    fields.optional("cpus", checkpoint.cpus);
    fields.optional("mem_mib", checkpoint.mem_mib);
    fields.optional("disk_mib", checkpoint.disk_mib);
    fields.optional("logical_bytes", checkpoint.logical_bytes);
    fields.optional("written_bytes", checkpoint.written_bytes);
    fields.optional("paused_us", checkpoint.paused_us);
    fields.optional("disk_used_bytes", checkpoint.disk_used_bytes);
    fields.optional("vmm", checkpoint.vmm);
    fields.optional("obstacle", checkpoint.obstacle);
    if (auto read = fields.done(); !read) return fail(std::move(read).error());
    return checkpoint;
}

json::object to_json(const CheckpointInfo& checkpoint) {
    json::object out;
    out.emplace("id", checkpoint.id);
    out.emplace("vm_name", checkpoint.vm_name);
    put_nullable(out, "label", checkpoint.label);
    out.emplace("created_at", checkpoint.created_at);
    if (checkpoint.name) out.emplace("name", *checkpoint.name);
    if (checkpoint.parent) out.emplace("parent", *checkpoint.parent);
    out.emplace("automatic", checkpoint.automatic);
    out.emplace("has_memory", checkpoint.has_memory);
    out.emplace("cpus", checkpoint.cpus);
    out.emplace("mem_mib", checkpoint.mem_mib);
    out.emplace("disk_mib", checkpoint.disk_mib);
    out.emplace("logical_bytes", checkpoint.logical_bytes);
    out.emplace("written_bytes", checkpoint.written_bytes);
    out.emplace("paused_us", checkpoint.paused_us);
    if (checkpoint.disk_used_bytes) out.emplace("disk_used_bytes", *checkpoint.disk_used_bytes);
    out.emplace("vmm", checkpoint.vmm);
    if (!checkpoint.obstacle.empty()) out.emplace("obstacle", checkpoint.obstacle);
    return out;
}

Result<CreateCheckpoint> CreateCheckpoint::from_json(const json::value& value) {
    CreateCheckpoint request;
    FieldReader fields{value};
    fields.optional("label", request.label);
    fields.optional("name", request.name);
    if (auto read = fields.done(); !read) return fail(std::move(read).error());
    return request;
}

json::object to_json(const CreateCheckpoint& request) {
    json::object out;
    put_nullable(out, "label", request.label);
    if (request.name) out.emplace("name", *request.name);
    return out;
}

Result<ChangeCheckpoint> ChangeCheckpoint::from_json(const json::value& value) {
    ChangeCheckpoint request;
    FieldReader fields{value};
    fields.optional("label", request.label);
    fields.optional("name", request.name);
    if (!request.label && !request.name) fields.wrong("'name' or 'label' must be given");
    if (auto read = fields.done(); !read) return fail(std::move(read).error());
    return request;
}

Result<PruneCheckpoints> PruneCheckpoints::from_json(const json::value& value) {
    PruneCheckpoints request;
    FieldReader fields{value};
    fields.optional("keep", request.keep);
    fields.optional("older_than_s", request.older_than_s);
    fields.optional("automatic_only", request.automatic_only);
    if (!request.keep && !request.older_than_s) fields.wrong("'keep' or 'older_than_s' must be given");
    if (request.older_than_s > longest_period) fields.must_be("older_than_s", "at most 100 years");
    if (auto read = fields.done(); !read) return fail(std::move(read).error());
    return request;
}

Result<RestoreCheckpoint> RestoreCheckpoint::from_json(const json::value& value) {
    RestoreCheckpoint request;
    FieldReader fields{value};
    fields.required("checkpoint_id", request.checkpoint_id);
    fields.optional("new_name", request.new_name);
    fields.optional("keep_present", request.keep_present);
    if (auto read = fields.done(); !read) return fail(std::move(read).error());
    return request;
}

json::object to_json(const RestoreCheckpoint& request) {
    json::object out;
    out.emplace("checkpoint_id", request.checkpoint_id);
    put_nullable(out, "new_name", request.new_name);
    if (!request.keep_present) out.emplace("keep_present", false);
    return out;
}

Result<ForkVm> ForkVm::from_json(const json::value& value) {
    ForkVm request;
    FieldReader fields{value};
    fields.optional("names", request.names);
    fields.optional("count", request.count);
    if (request.count && !request.names.empty()) fields.wrong("'names' and 'count' exclude each other");
    if (auto read = fields.done(); !read) return fail(std::move(read).error());
    return request;
}

Result<VmPolicy> VmPolicy::from_json(const json::value& value) {
    VmPolicy policy;
    FieldReader fields{value};
    fields.optional("checkpoint_every_s", policy.checkpoint_every_s);
    fields.optional("checkpoint_keep", policy.checkpoint_keep);
    fields.optional("idle_suspend_s", policy.idle_suspend_s);
    if (policy.checkpoint_every_s > longest_period) fields.must_be("checkpoint_every_s", "at most 100 years");
    if (policy.idle_suspend_s > longest_period) fields.must_be("idle_suspend_s", "at most 100 years");
    if (auto read = fields.done(); !read) return fail(std::move(read).error());
    return policy;
}

json::object to_json(const VmPolicy& policy) {
    json::object out;
    put_nullable(out, "checkpoint_every_s", policy.checkpoint_every_s);
    out.emplace("checkpoint_keep", policy.checkpoint_keep);
    put_nullable(out, "idle_suspend_s", policy.idle_suspend_s);
    return out;
}

}  // namespace noid::wire
