#pragma once

#include <boost/asio/posix/stream_descriptor.hpp>
#include <chrono>
#include <filesystem>
#include <optional>
#include <string>

#include "base/async.hpp"

namespace noid::netclient {

// Sees a daemon's socket come, also when its directory is not there yet. Open it before a try to connect:
// what comes after that is not missed. Used on one executor.
class SocketWatch {
  public:
    SocketWatch(asio::any_io_executor executor, const std::filesystem::path& socket);

    // Returns when the socket, or the directory in which it will be, has come or changed, or after `limit`.
    Awaitable<void> changed(std::chrono::milliseconds limit);

  private:
    Awaitable<Result<void>> until_named();

    std::string name_;  // of the socket, or of the first directory on the way to it that does not exist
    // None: the kernel has no inotify instance left, and only the time limit is waited for.
    std::optional<asio::posix::stream_descriptor> events_;
};

}  // namespace noid::netclient
