#pragma once

#include <boost/asio/local/stream_protocol.hpp>
#include <string>

#include "base/async.hpp"
#include "base/error.hpp"
#include "base/fd.hpp"

// Unix stream sockets named inside an open directory. The kernel's limit of 107 bytes for a socket's
// path then holds for the name alone, however deep the directory lies.
namespace noid {

// A listening socket at `name`, close-on-exec, which only its owner may connect to. Takes the place of
// a socket that an earlier process left there.
[[nodiscard]] Result<Fd> listen_unix_at(const Fd& directory, const std::string& name, int backlog);

// Connects from the caller's executor. not_found: no such socket; unavailable: nobody listens.
[[nodiscard]] Awaitable<Result<asio::local::stream_protocol::socket>> connect_unix_at(const Fd& directory,
                                                                                      std::string name);
// Connects without waiting: unavailable also when too many others wait to be accepted.
[[nodiscard]] Result<Fd> connect_unix_at_once(const Fd& directory, const std::string& name);

}  // namespace noid
