#include <boost/json/serialize.hpp>

#include "api/endpoint_input.hpp"
#include "api/endpoints.hpp"
#include "api/openapi_document.hpp"
#include "wire/server_info.hpp"

namespace noid::api {

Result<Response> get_health(Call&) {
    return Response::json(R"({"status":"ok"})");
}

Result<Response> get_version(Call&) {
    return json_response(wire::to_json(wire::Version{std::string{server_version()}}));
}

Result<Response> get_openapi(Call&) {
    return Response::json(std::string{openapi_document()});
}

Awaitable<Result<Response>> get_metrics(Call& call) {
    const vm::EngineNumbers numbers = co_await call.services.engine.numbers();
    // Without a token only where the operator lets /metrics alone be asked for.
    const std::string* reader = call.tenant ? &call.tenant->user_name() : nullptr;
    Response response = Response::text(call.services.metrics.page(numbers, reader));
    response.content_type = "text/plain; version=0.0.4; charset=utf-8";
    co_return response;
}

Result<Response> get_whoami(Call& call) {
    return json_response(wire::to_json(wire::WhoAmI{call.tenant->user_id(), call.tenant->user_name()}));
}

Result<Response> get_capabilities(Call& call) {
    const config::ServerConfig& config = call.services.config;
    wire::Capabilities capabilities;
    capabilities.exec_timeout_secs = static_cast<std::uint64_t>(config.server.exec_timeout.count());
    capabilities.console_timeout_secs = static_cast<std::uint64_t>(config.server.console_timeout.count());
    capabilities.max_vms = config.limits.max_vms;
    capabilities.max_mem_mib = config.limits.max_memory_per_vm.count;
    capabilities.max_cpus = config.limits.max_vcpus_per_vm;
    capabilities.max_disk_mib = config.limits.max_disk_per_vm.count;
    capabilities.vmm = vmm::name_of(call.services.engine.vmm().kind);
    capabilities.features = {"archive",  "checkpoints", "console", "files",    "fork",    "logs", "network",
                             "policies", "ports",       "restore", "sessions", "suspend", "tcp"};
    return json_response(wire::to_json(capabilities));
}

namespace {

// Target::parse took the path apart; a redirect repeats it with the escapes that it needs.
std::string escaped(std::string_view text) {
    constexpr char digits[] = "0123456789ABCDEF";
    std::string out;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        const bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                           c == '-' || c == '.' || c == '_' || c == '~';
        if (plain) {
            out.push_back(c);
        } else {
            out.push_back('%');
            out.push_back(digits[byte >> 4]);
            out.push_back(digits[byte & 15]);
        }
    }
    return out;
}

// 308 keeps method and body.
Response redirect(const Target& target, std::string location) {
    char separator = '?';
    for (const auto& [key, value] : target.query) {
        location += separator + escaped(key) + "=" + escaped(value);
        separator = '&';
    }
    Response response;
    response.status = 308;
    response.headers.emplace_back("Location", std::move(location));
    return response;
}

}  // namespace

Result<Response> redirect_vms(Call& call) {
    std::string location = "/v1";
    for (const std::string& segment : call.target.segments) location.append("/").append(escaped(segment));
    return redirect(call.target, std::move(location));
}

Result<Response> redirect_to_vm(Call& call) {
    const std::string& endpoint = call.target.segments.front();  // "console", "logs"
    return redirect(call.target, "/v1/vms/" + escaped(call.parameter("name")) + "/" + endpoint);
}

}  // namespace noid::api
