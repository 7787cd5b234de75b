#include <array>

#include "api/endpoints.hpp"

namespace noid::api {

namespace {

using enum Method;

constexpr Route open(std::string_view pattern, Immediate endpoint) {
    return Route{.method = get, .pattern = pattern, .access = Access::open, .endpoint = endpoint};
}

// Takes as long as it takes: it has a limit of its own.
constexpr Route acting(Method method, std::string_view pattern, Waiting endpoint, Input input = Input::none) {
    return Route{.method = method,
                 .pattern = pattern,
                 .endpoint = endpoint,
                 .input = input,
                 .deadline = Deadline::own};
}

// A stream of bytes: as long as it takes, and as its token is valid.
constexpr Route streamed(Method method, std::string_view pattern, Waiting endpoint,
                         Input input = Input::none) {
    return Route{.method = method,
                 .pattern = pattern,
                 .endpoint = endpoint,
                 .input = input,
                 .deadline = Deadline::stream};
}

constexpr Route web_socket(std::string_view pattern, Waiting endpoint) {
    return Route{.method = get,
                 .pattern = pattern,
                 .endpoint = endpoint,
                 .deadline = Deadline::stream,
                 .web_socket = true};
}

constexpr Route redirected(Method method, std::string_view pattern, Immediate endpoint) {
    return Route{.method = method, .pattern = pattern, .endpoint = endpoint};
}

constexpr std::array main_table{
    open("/health", get_health),
    open("/healthz", get_health),
    open("/version", get_version),
    open("/openapi.json", get_openapi),
    Route{.method = get, .pattern = "/metrics", .endpoint = get_metrics},
    Route{.method = get, .pattern = "/v1/whoami", .endpoint = get_whoami},
    Route{.method = get, .pattern = "/v1/capabilities", .endpoint = get_capabilities},
    Route{.method = get, .pattern = "/v1/vms", .endpoint = list_vms},
    acting(post, "/v1/vms", create_vm, Input::json),
    Route{.method = get, .pattern = "/v1/vms/{name}", .endpoint = get_vm},
    Route{.method = patch, .pattern = "/v1/vms/{name}", .endpoint = change_vm, .input = Input::json},
    acting(delete_, "/v1/vms/{name}", delete_vm),
    acting(post, "/v1/vms/{name}/start", start_vm),
    acting(post, "/v1/vms/{name}/stop", stop_vm),
    acting(post, "/v1/vms/{name}/pause", pause_vm),
    acting(post, "/v1/vms/{name}/resume", resume_vm),
    acting(post, "/v1/vms/{name}/suspend", suspend_vm),
    Route{.method = get, .pattern = "/v1/vms/{name}/policy", .endpoint = get_policy},
    Route{.method = put, .pattern = "/v1/vms/{name}/policy", .endpoint = put_policy, .input = Input::json},
    Route{.method = get, .pattern = "/v1/vms/{name}/network", .endpoint = get_network},
    Route{.method = put, .pattern = "/v1/vms/{name}/network", .endpoint = put_network, .input = Input::json},
    Route{.method = get, .pattern = "/v1/vms/{name}/ports", .endpoint = list_ports},
    Route{.method = post, .pattern = "/v1/vms/{name}/ports", .endpoint = publish_port, .input = Input::json},
    Route{.method = delete_, .pattern = "/v1/vms/{name}/ports/{guest}", .endpoint = withdraw_port},
    Route{.method = post, .pattern = "/v1/vms/{name}/ports/{guest}/link", .endpoint = create_link},
    Route{.method = get, .pattern = "/v1/vms/{name}/checkpoints", .endpoint = list_checkpoints},
    acting(post, "/v1/vms/{name}/checkpoints", create_checkpoint, Input::json),
    acting(post, "/v1/vms/{name}/checkpoints/prune", prune_checkpoints, Input::json),
    streamed(post, "/v1/vms/{name}/checkpoints/import", import_checkpoint, Input::stream),
    Route{.method = get, .pattern = "/v1/vms/{name}/checkpoints/{which}", .endpoint = get_checkpoint},
    Route{.method = patch,
          .pattern = "/v1/vms/{name}/checkpoints/{which}",
          .endpoint = change_checkpoint,
          .input = Input::json},
    acting(delete_, "/v1/vms/{name}/checkpoints/{which}", delete_checkpoint),
    streamed(get, "/v1/vms/{name}/checkpoints/{which}/export", export_checkpoint),
    acting(post, "/v1/vms/{name}/restore", restore_checkpoint, Input::json),
    acting(post, "/v1/vms/{name}/fork", fork_vm, Input::json),
    acting(post, "/v1/vms/{name}/exec", exec, Input::json),
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
    streamed(get, "/v1/vms/{name}/logs", get_logs),
    streamed(get, "/v1/vms/{name}/files", get_file),
    streamed(put, "/v1/vms/{name}/files", put_file, Input::stream),
    streamed(get, "/v1/vms/{name}/archive", get_archive),
    streamed(put, "/v1/vms/{name}/archive", put_archive, Input::stream),
    web_socket("/v1/vms/{name}/transfer", transfer_stream),
    redirected(get, "/vms/{*rest}", redirect_vms),
    redirected(post, "/vms/{*rest}", redirect_vms),
    redirected(put, "/vms/{*rest}", redirect_vms),
    redirected(delete_, "/vms/{*rest}", redirect_vms),
    redirected(get, "/console/{name}", redirect_to_vm),
    web_socket("/console/{name}", console_stream),  // clients do not follow redirects of an upgrade
    redirected(get, "/logs/{name}", redirect_to_vm),
};

constexpr std::array metrics_table{
    Route{.method = get, .pattern = "/metrics", .access = Access::open, .endpoint = get_metrics},
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
    Route{.method = get,
          .pattern = "/admin/v1/users/{name}/limits",
          .access = Access::local,
          .endpoint = get_limits},
    Route{.method = put,
          .pattern = "/admin/v1/users/{name}/limits",
          .access = Access::local,
          .endpoint = put_limits,
          .input = Input::json},
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
