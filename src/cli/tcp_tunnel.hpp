#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <cstdint>
#include <string>

#include "base/async.hpp"
#include "base/error.hpp"
#include "cli/client_config.hpp"
#include "cli/dial.hpp"

namespace noid::cli {

// Carries the bytes of `local` to and from a TCP port in a VM, each direction until its own end.
// The error says why the port was not reached, or what broke.
Awaitable<Result<void>> tunnel(asio::ip::tcp::socket local, Account account, std::string vm,
                               std::uint16_t port, Trace trace);

}  // namespace noid::cli
