#pragma once

#include <boost/asio/posix/stream_descriptor.hpp>
#include <optional>
#include <string>

#include "base/async.hpp"
#include "base/error.hpp"

namespace noid::cli {

// Reads a descriptor that others share with us, stdin above all, without blocking the loop and
// without touching its flags (O_NONBLOCK on a shared description would break the others). The
// descriptor is not closed. Lives on the loop's thread.
class LocalInput {
  public:
    [[nodiscard]] static Result<LocalInput> open(const asio::any_io_executor& executor, int fd);

    // The next bytes, at most `most`; empty at the end.
    Awaitable<Result<std::string>> read(std::size_t most);

  private:
    LocalInput(int fd, std::optional<asio::posix::stream_descriptor> watch)
        : fd_{fd}, watch_{std::move(watch)} {}

    int fd_;
    // An epoll of our own that holds `fd_`: readable when `fd_` is. None for regular files and the
    // like, which never make anybody wait.
    std::optional<asio::posix::stream_descriptor> watch_;
};

}  // namespace noid::cli
