#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

#include "base/async.hpp"
#include "base/error.hpp"

namespace noid::cli {

// Told what a connection goes through, for NOID_VERBOSE. May be empty.
using Trace = std::function<void(const std::string&)>;

// Connects `socket` to host and port within `budget`: IPv4 addresses first, no address but the last
// for more than two seconds. The error says what the last address answered.
Awaitable<Result<void>> dial(asio::ip::tcp::socket& socket, std::string host, std::uint16_t port,
                             std::chrono::milliseconds budget, Trace trace);

}  // namespace noid::cli
