#pragma once

#include <boost/asio/posix/stream_descriptor.hpp>
#include <cstdint>
#include <string_view>

#include "base/async.hpp"
#include "base/error.hpp"

namespace noid::cli {

// Writes a descriptor that others share with us, stdout above all, however slow its reader, without
// blocking the loop and without touching its flags (O_NONBLOCK on a shared description would break
// the others). The descriptor is not closed. One write at a time. Lives on the loop's thread.
class LocalOutput {
  public:
    [[nodiscard]] static Result<LocalOutput> open(const asio::any_io_executor& executor, int fd);

    // Returns when the descriptor has taken all of it. The error's cause is the errno: EPIPE when the
    // reader is gone. Cancelled, an unknown part has been written.
    Awaitable<Result<void>> write(std::string_view bytes);

  private:
    enum class Way : std::uint8_t {
        direct,    // a regular file and the like: never makes anybody wait
        reopened,  // a description of our own for the same pipe or terminal
        careful,   // the shared one, as little at a time as surely fits
    };
    LocalOutput(int fd, Way way, asio::posix::stream_descriptor watch)
        : fd_{fd}, way_{way}, watch_{std::move(watch)} {}

    int fd_;
    Way way_;
    asio::posix::stream_descriptor watch_;  // reopened: the description; careful: an epoll that holds fd_
};

// Writes all of it, blocking.
[[nodiscard]] Result<void> write_all(int fd, std::string_view bytes);

}  // namespace noid::cli
