#pragma once

#include <boost/json/monotonic_resource.hpp>
#include <memory>
#include <string>
#include <string_view>

#include "api/call.hpp"
#include "api/message.hpp"
#include "wire/json.hpp"

// What endpoints ask of a request, with the errors that clients know.
namespace noid::api {

// The VM that the path names: 400 "invalid VM name", 404 "VM 'x' not found".
[[nodiscard]] Result<vm::VmName> vm_name(const Call& call);
[[nodiscard]] Result<std::shared_ptr<vm::Vm>> find_vm(const Call& call);

// The body as a T; "invalid request body: …".
template <class T>
[[nodiscard]] Result<T> read_json(const Call& call) {
    boost::json::monotonic_resource memory;
    auto value = wire::parse_json(call.body, &memory);
    if (!value) return fail(std::move(value).error().at("invalid request body"));
    auto request = T::from_json(*value);
    if (!request) return fail(std::move(request).error().at("invalid request body"));
    return request;
}

// An absolute path of the guest in the query parameter `path`.
[[nodiscard]] Result<std::string> guest_path(const Call& call);
// The id in the path: 404 when it cannot be one.
[[nodiscard]] Result<proto::SessionId> session_id(const Call& call);

// Compact JSON.
[[nodiscard]] Response json_response(const wire::json::value& value, unsigned status = 200);

}  // namespace noid::api
