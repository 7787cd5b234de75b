#include "api/endpoint_input.hpp"

#include <boost/json/serialize.hpp>

#include "wire/names.hpp"

namespace noid::api {

Result<vm::VmName> vm_name(const Call& call) {
    const std::string_view text = call.parameter("name");
    if (text.empty()) return fail(Errc::invalid, "missing VM name in path");
    auto name = vm::VmName::parse(text);
    if (!name) return fail(Errc::invalid, "invalid VM name");
    return name;
}

Result<std::shared_ptr<vm::Vm>> find_vm(const Call& call) {
    const auto name = vm_name(call);
    if (!name) return fail(name.error());
    return call.tenant->find(*name);
}

Result<std::string> guest_path(const Call& call) {
    const auto path = call.target.find("path");
    if (!path) return fail(Errc::invalid, "parameter 'path' is missing");
    if (!path->starts_with('/') || path->size() > 4095)
        return fail(Errc::invalid, "parameter 'path' must be an absolute path of at most 4095 bytes");
    return std::string{*path};
}

Result<proto::SessionId> session_id(const Call& call) {
    const std::string_view text = call.parameter("id");
    if (const auto id = proto::parse_session_id(text)) return *id;
    return fail(Errc::not_found, "session '" + wire::clipped(text, 32) + "' not found");
}

Response json_response(const wire::json::value& value, unsigned status) {
    return Response::json(boost::json::serialize(value), status);
}

}  // namespace noid::api
