#pragma once

#include "proto/messages.hpp"
#include "wire/exec.hpp"

namespace noid::api {

enum class Transport : std::uint8_t { rest, web_socket };

// The guest session that a checked request asks for.
[[nodiscard]] proto::SessionSpec session_spec(const wire::ExecRequest& request, Transport transport,
                                              std::chrono::milliseconds time_limit);

}  // namespace noid::api
