#include "api/exec_session.hpp"

namespace noid::api {

proto::SessionSpec session_spec(const wire::ExecRequest& request, Transport transport,
                                std::chrono::milliseconds time_limit) {
    proto::Exec exec;
    exec.argv = request.command;
    exec.env = request.env;
    exec.cwd = request.cwd;
    exec.user = request.user;
    exec.time_limit = time_limit;
    exec.input = request.input.has_value();
    proto::SessionSpec spec;
    if (transport == Transport::web_socket) {
        exec.input = exec.input || request.stream_stdin || request.tty;
        if (request.tty) {
            const wire::WindowSize size = request.size.value_or(wire::WindowSize{});
            exec.tty = proto::TerminalSize{size.cols, size.rows};
        }
        if (request.on_disconnect == wire::OnDisconnect::detach)
            spec.on_disconnect = proto::Disconnect::detach;
        if (request.hold_ms) spec.hold = std::chrono::milliseconds{*request.hold_ms};
    } else {
        // The original's `stdout` holds both streams, in order. Its `tty` meant nothing.
        exec.merge_error_output = !request.separate;
        if (request.detach) {
            spec.on_disconnect = proto::Disconnect::detach;
            exec.input = exec.input || request.stream_stdin;
        }
    }
    spec.operation = std::move(exec);
    spec.label = request.label;
    return spec;
}

}  // namespace noid::api
