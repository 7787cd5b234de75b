#pragma once

#include <span>

#include "api/router.hpp"

namespace noid::api {

// Every endpoint of the main listener, of the metrics listener and of the administration socket.
[[nodiscard]] std::span<const Route> main_routes();
[[nodiscard]] std::span<const Route> metrics_routes();
[[nodiscard]] std::span<const Route> admin_routes();

// The version that GET /version and the OpenAPI document name.
[[nodiscard]] std::string_view server_version() noexcept;

// What serves the routes, by subject. server_endpoints.cpp:
Result<Response> get_health(Call& call);
Result<Response> get_version(Call& call);
Result<Response> get_openapi(Call& call);
Awaitable<Result<Response>> get_metrics(Call& call);
Result<Response> get_whoami(Call& call);
Result<Response> get_capabilities(Call& call);
Result<Response> redirect_vms(Call& call);    // /vms/… → /v1/vms/…
Result<Response> redirect_to_vm(Call& call);  // /console/NAME, /logs/NAME → /v1/vms/NAME/…

// vm_endpoints.cpp:
Awaitable<Result<Response>> create_vm(Call& call);
Result<Response> list_vms(Call& call);
Awaitable<Result<Response>> get_vm(Call& call);
Awaitable<Result<Response>> delete_vm(Call& call);
Awaitable<Result<Response>> start_vm(Call& call);
Awaitable<Result<Response>> stop_vm(Call& call);
Awaitable<Result<Response>> pause_vm(Call& call);
Awaitable<Result<Response>> resume_vm(Call& call);
Awaitable<Result<Response>> suspend_vm(Call& call);
Awaitable<Result<Response>> change_vm(Call& call);

// checkpoint_endpoints.cpp:
Awaitable<Result<Response>> list_checkpoints(Call& call);
Awaitable<Result<Response>> create_checkpoint(Call& call);
Awaitable<Result<Response>> get_checkpoint(Call& call);
Awaitable<Result<Response>> change_checkpoint(Call& call);
Awaitable<Result<Response>> delete_checkpoint(Call& call);
Awaitable<Result<Response>> prune_checkpoints(Call& call);
Awaitable<Result<Response>> export_checkpoint(Call& call);
Awaitable<Result<Response>> import_checkpoint(Call& call);
Awaitable<Result<Response>> restore_checkpoint(Call& call);
Awaitable<Result<Response>> fork_vm(Call& call);
Result<Response> get_policy(Call& call);
Awaitable<Result<Response>> put_policy(Call& call);

// network_endpoints.cpp:
Result<Response> get_network(Call& call);
Awaitable<Result<Response>> put_network(Call& call);
Result<Response> list_ports(Call& call);
Awaitable<Result<Response>> publish_port(Call& call);
Awaitable<Result<Response>> withdraw_port(Call& call);
Result<Response> create_link(Call& call);

// exec_endpoints.cpp:
Awaitable<Result<Response>> exec(Call& call);
Awaitable<Result<Response>> list_sessions(Call& call);
Awaitable<Result<Response>> delete_session(Call& call);
Awaitable<Result<Response>> signal_session(Call& call);

// stream_endpoints.cpp:
Awaitable<Result<Response>> exec_stream(Call& call);
Awaitable<Result<Response>> attach_stream(Call& call);
Awaitable<Result<Response>> tcp_stream(Call& call);
Awaitable<Result<Response>> console_stream(Call& call);
Awaitable<Result<Response>> get_logs(Call& call);

// file_endpoints.cpp:
Awaitable<Result<Response>> get_file(Call& call);
Awaitable<Result<Response>> put_file(Call& call);
Awaitable<Result<Response>> get_archive(Call& call);
Awaitable<Result<Response>> put_archive(Call& call);
Awaitable<Result<Response>> transfer_stream(Call& call);

// admin_endpoints.cpp:
Awaitable<Result<Response>> list_users(Call& call);
Awaitable<Result<Response>> create_user(Call& call);
Awaitable<Result<Response>> rotate_token(Call& call);
Awaitable<Result<Response>> get_limits(Call& call);
Awaitable<Result<Response>> put_limits(Call& call);
Awaitable<Result<Response>> delete_user(Call& call);

}  // namespace noid::api
