#include <array>

#include "api/endpoints.hpp"

namespace noid::api {

namespace {

using enum Method;

constexpr Route open(std::string_view pattern, Immediate endpoint) {
    return Route{.method = get, .pattern = pattern, .access = Access::open, .endpoint = endpoint};
}

constexpr Route web_socket(std::string_view pattern, Waiting endpoint) {
    return Route{.method = get,
                 .pattern = pattern,
                 .endpoint = endpoint,
                 .deadline = Deadline::own,
                 .web_socket = true};
}

constexpr Route redirected(Method method, std::string_view pattern, Immediate endpoint) {
    return Route{.method = method, .pattern = pattern, .endpoint = endpoint};
}

// Creating, starting and stopping have the boot's and the shut-down's own limits.
constexpr std::array main_table{
    open("/health", get_health),
    open("/healthz", get_health),
    open("/version", get_version),
    open("/openapi.json", get_openapi),
    Route{.method = get, .pattern = "/metrics", .endpoint = get_metrics},
    Route{.method = get, .pattern = "/v1/whoami", .endpoint = get_whoami},
    Route{.method = get, .pattern = "/v1/capabilities", .endpoint = get_capabilities},
    Route{.method = get, .pattern = "/v1/vms", .endpoint = list_vms},
    Route{.method = post,
          .pattern = "/v1/vms",
          .endpoint = create_vm,
          .input = Input::json,
          .deadline = Deadline::own},
    Route{.method = get, .pattern = "/v1/vms/{name}", .endpoint = get_vm},
    Route{.method = delete_, .pattern = "/v1/vms/{name}", .endpoint = delete_vm, .deadline = Deadline::own},
    Route{.method = post, .pattern = "/v1/vms/{name}/start", .endpoint = start_vm, .deadline = Deadline::own},
    Route{.method = post, .pattern = "/v1/vms/{name}/stop", .endpoint = stop_vm, .deadline = Deadline::own},
    Route{.method = post, .pattern = "/v1/vms/{name}/pause", .endpoint = pause_vm},
    Route{.method = post, .pattern = "/v1/vms/{name}/resume", .endpoint = resume_vm},
    Route{.method = post,
          .pattern = "/v1/vms/{name}/exec",
          .endpoint = exec,
          .input = Input::json,
          .deadline = Deadline::own},
    web_socket("/v1/vms/{name}/exec", exec_stream),
    web_socket("/v1/vms/{name}/console", console_stream),
    web_socket("/v1/vms/{name}/tcp", tcp_stream),
    Route{.method = get, .pattern = "/v1/vms/{name}/sessions", .endpoint = list_sessions},
    Route{.method = delete_, .pattern = "/v1/vms/{name}/sessions/{id}", .endpoint = delete_session},
    Route{.method = post,
          .pattern = "/v1/vms/{name}/sessions/{id}/signal",
          .endpoint = signal_session,
          .input = Input::json},
    web_socket("/v1/vms/{name}/sessions/{id}/attach", attach_stream),
    Route{.method = get, .pattern = "/v1/vms/{name}/logs", .endpoint = get_logs, .deadline = Deadline::own},
    Route{.method = get, .pattern = "/v1/vms/{name}/files", .endpoint = get_file, .deadline = Deadline::own},
    Route{.method = put,
          .pattern = "/v1/vms/{name}/files",
          .endpoint = put_file,
          .input = Input::stream,
          .deadline = Deadline::own},
    Route{.method = get,
          .pattern = "/v1/vms/{name}/archive",
          .endpoint = get_archive,
          .deadline = Deadline::own},
    Route{.method = put,
          .pattern = "/v1/vms/{name}/archive",
          .endpoint = put_archive,
          .input = Input::stream,
          .deadline = Deadline::own},
    redirected(get, "/vms/{*rest}", redirect_vms),
    redirected(post, "/vms/{*rest}", redirect_vms),
    redirected(put, "/vms/{*rest}", redirect_vms),
    redirected(delete_, "/vms/{*rest}", redirect_vms),
    redirected(get, "/console/{name}", redirect_to_vm),
    web_socket("/console/{name}", console_stream),  // clients do not follow redirects of an upgrade
    redirected(get, "/logs/{name}", redirect_to_vm),
};

constexpr std::array metrics_table{
    open("/metrics", get_metrics),
    open("/health", get_health),
};

constexpr std::array admin_table{
    Route{.method = get, .pattern = "/admin/v1/users", .access = Access::local, .endpoint = list_users},
    Route{.method = post,
          .pattern = "/admin/v1/users",
          .access = Access::local,
          .endpoint = create_user,
          .input = Input::json},
    Route{.method = post,
          .pattern = "/admin/v1/users/{name}/rotate-token",
          .access = Access::local,
          .endpoint = rotate_token},
    Route{.method = delete_,
          .pattern = "/admin/v1/users/{name}",
          .access = Access::local,
          .endpoint = delete_user,
          .deadline = Deadline::own},
    Route{.method = get, .pattern = "/health", .access = Access::local, .endpoint = get_health},
};

}  // namespace

std::span<const Route> main_routes() {
    return main_table;
}
std::span<const Route> metrics_routes() {
    return metrics_table;
}
std::span<const Route> admin_routes() {
    return admin_table;
}

std::string_view server_version() noexcept {
    return NOID_VERSION;
}

}  // namespace noid::api
