#include "wire/server_info.hpp"

#include <algorithm>

#include "wire/exec.hpp"
#include "wire/names.hpp"
#include "wire/vm.hpp"

namespace noid::wire {

Result<ErrorBody> ErrorBody::from_json(const json::value& value) {
    ErrorBody body;
    FieldReader fields{value};
    fields.required("error", body.error);
    fields.optional("code", body.code);
    fields.optional("request_id", body.request_id);
    if (auto read = fields.done(); !read) return fail(std::move(read).error());
    return body;
}

json::object to_json(const ErrorBody& body) {
    json::object out;
    out.emplace("error", body.error);
    out.emplace("code", body.code);
    if (!body.request_id.empty()) out.emplace("request_id", body.request_id);
    return out;
}

Result<Version> Version::from_json(const json::value& value) {
    Version version;
    FieldReader fields{value};
    fields.required("version", version.version);
    fields.required("api_version", version.api);
    if (auto read = fields.done(); !read) return fail(std::move(read).error());
    return version;
}

json::object to_json(const Version& version) {
    json::object out;
    out.emplace("version", version.version);
    out.emplace("api_version", version.api);
    return out;
}

Result<WhoAmI> WhoAmI::from_json(const json::value& value) {
    WhoAmI who;
    FieldReader fields{value};
    fields.required("user_id", who.user_id);
    fields.required("name", who.name);
    if (auto read = fields.done(); !read) return fail(std::move(read).error());
    return who;
}

json::object to_json(const WhoAmI& who) {
    json::object out;
    out.emplace("user_id", who.user_id);
    out.emplace("name", who.name);
    return out;
}

Result<Capabilities> Capabilities::from_json(const json::value& value) {
    Capabilities capabilities;
    FieldReader fields{value};
    fields.optional("exec_timeout_secs", capabilities.exec_timeout_secs);
    fields.optional("console_timeout_secs", capabilities.console_timeout_secs);
    fields.optional("max_vms", capabilities.max_vms);
    fields.optional("max_mem_mib", capabilities.max_mem_mib);
    fields.optional("max_cpus", capabilities.max_cpus);
    fields.optional("max_disk_mib", capabilities.max_disk_mib);
    fields.optional("vmm", capabilities.vmm);
    fields.optional("features", capabilities.features);
    if (auto read = fields.done(); !read) return fail(std::move(read).error());
    return capabilities;
}

bool Capabilities::has(std::string_view feature) const noexcept {
    return std::find(features.begin(), features.end(), feature) != features.end();
}

json::object to_json(const Capabilities& capabilities) {
    json::object out;
    out.emplace("api_version", api_version);
    out.emplace("max_exec_output_bytes", max_exec_output);
    out.emplace("exec_timeout_secs", capabilities.exec_timeout_secs);
    out.emplace("console_timeout_secs", capabilities.console_timeout_secs);
    out.emplace("max_vm_name_length", max_vm_name);
    out.emplace("default_cpus", default_cpus);
    out.emplace("default_mem_mib", default_mem_mib);
    json::object timeouts;
    timeouts.emplace("exec_timeout_secs", capabilities.exec_timeout_secs);
    timeouts.emplace("console_timeout_secs", capabilities.console_timeout_secs);
    out.emplace("timeouts", std::move(timeouts));
    json::object limits;
    limits.emplace("max_env_vars", max_env_vars);
    limits.emplace("max_env_value_len", max_env_value);
    out.emplace("limits", std::move(limits));
    json::object defaults;
    defaults.emplace("cpus", default_cpus);
    defaults.emplace("mem_mib", default_mem_mib);
    out.emplace("defaults", std::move(defaults));
    out.emplace("max_vms", capabilities.max_vms);
    out.emplace("max_mem_mib", capabilities.max_mem_mib);
    out.emplace("max_cpus", capabilities.max_cpus);
    out.emplace("max_disk_mib", capabilities.max_disk_mib);
    out.emplace("vmm", capabilities.vmm);
    out.emplace("features", to_json(capabilities.features));
    return out;
}

Result<User> User::from_json(const json::value& value) {
    User user;
    FieldReader fields{value};
    fields.required("id", user.id);
    fields.required("name", user.name);
    fields.required("created_at", user.created_at);
    if (auto read = fields.done(); !read) return fail(std::move(read).error());
    return user;
}

json::object to_json(const User& user) {
    json::object out;
    out.emplace("id", user.id);
    out.emplace("name", user.name);
    out.emplace("created_at", user.created_at);
    return out;
}

Result<UserWithToken> UserWithToken::from_json(const json::value& value) {
    UserWithToken out;
    auto user = User::from_json(value);
    if (!user) return fail(std::move(user).error());
    out.user = std::move(*user);
    FieldReader fields{value};
    fields.required("token", out.token);
    if (auto read = fields.done(); !read) return fail(std::move(read).error());
    return out;
}

json::object to_json(const UserWithToken& user) {
    json::object out = to_json(user.user);
    out.emplace("token", user.token);
    return out;
}

Result<CreateUser> CreateUser::from_json(const json::value& value) {
    CreateUser request;
    FieldReader fields{value};
    fields.required("name", request.name);
    if (auto read = fields.done(); !read) return fail(std::move(read).error());
    return request;
}

json::object to_json(const CreateUser& request) {
    json::object out;
    out.emplace("name", request.name);
    return out;
}

}  // namespace noid::wire
