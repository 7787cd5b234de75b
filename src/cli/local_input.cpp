#include "cli/local_input.hpp"

#include <sys/epoll.h>
#include <unistd.h>

#include <cerrno>

#include "base/fd.hpp"

namespace noid::cli {

Result<LocalInput> LocalInput::open(const asio::any_io_executor& executor, int fd) {
    Fd epoll{::epoll_create1(EPOLL_CLOEXEC)};
    if (!epoll) return fail_errno(errno, "cannot watch the input");
    epoll_event interest{};
    interest.events = EPOLLIN;
    if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &interest) != 0) {
        if (errno == EPERM) return LocalInput{fd, std::nullopt};  // a regular file
        return fail_errno(errno, "cannot watch the input");
    }
    return LocalInput{fd, asio::posix::stream_descriptor{executor, epoll.release()}};
}

Awaitable<Result<std::string>> LocalInput::read(std::size_t most) {
    std::string bytes;
    for (;;) {
        if (watch_)
            co_await watch_->async_wait(asio::posix::stream_descriptor::wait_read, asio::use_awaitable);
        int failure = 0;
        bytes.resize_and_overwrite(most, [&](char* data, std::size_t size) {
            const auto count = ::read(fd_, data, size);
            failure = count < 0 ? errno : 0;
            return count < 0 ? 0 : static_cast<std::size_t>(count);
        });
        if (failure == EINTR || failure == EAGAIN) continue;
        // A terminal that went away reads as an error; for us that is the end.
        if (failure != 0 && failure != EIO) co_return fail_errno(failure, "cannot read the input");
        co_return bytes;
    }
}

}  // namespace noid::cli
