#pragma once

#include <boost/asio/posix/stream_descriptor.hpp>
#include <filesystem>
#include <string>
#include <vector>

#include "base/async.hpp"
#include "base/error.hpp"

namespace noid::vm {

// Tells what appears in some directories, leaves them or is replaced there (inotify). Used on one strand.
class DirectoryWatch {
  public:
    [[nodiscard]] static Result<DirectoryWatch> create(asio::any_io_executor strand,
                                                       const std::vector<std::filesystem::path>& directories);

    // The names of entries that have changed since the last call; waits until there is one.
    Awaitable<Result<std::vector<std::string>>> next();

  private:
    explicit DirectoryWatch(asio::posix::stream_descriptor events) : events_{std::move(events)} {}
    asio::posix::stream_descriptor events_;
};

}  // namespace noid::vm
