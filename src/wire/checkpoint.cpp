#include "wire/checkpoint.hpp"

namespace noid::wire {

namespace {

// null where there is none: the original's clients want the member to be there.
void put_nullable(json::object& out, std::string_view key, const std::optional<std::string>& text) {
    if (text) {
        out.emplace(key, *text);
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

Result<RestoreCheckpoint> RestoreCheckpoint::from_json(const json::value& value) {
    RestoreCheckpoint request;
    FieldReader fields{value};
    fields.required("checkpoint_id", request.checkpoint_id);
    fields.optional("new_name", request.new_name);
    if (auto read = fields.done(); !read) return fail(std::move(read).error());
    return request;
}

json::object to_json(const RestoreCheckpoint& request) {
    json::object out;
    out.emplace("checkpoint_id", request.checkpoint_id);
    put_nullable(out, "new_name", request.new_name);
    return out;
}

}  // namespace noid::wire
