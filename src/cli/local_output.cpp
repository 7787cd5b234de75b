#include "cli/local_output.hpp"

#include <fcntl.h>
#include <limits.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <boost/asio/write.hpp>
#include <cerrno>
#include <string>

#include "base/fd.hpp"

namespace noid::cli {
namespace {

constexpr auto failed = "cannot write the output";

}  // namespace

Result<LocalOutput> LocalOutput::open(const asio::any_io_executor& executor, int fd) {
    Fd epoll{::epoll_create1(EPOLL_CLOEXEC)};
    if (!epoll) return fail_errno(errno, failed);
    epoll_event interest{};
    interest.events = EPOLLOUT;
    if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &interest) != 0) {
        if (errno == EPERM) return LocalOutput{fd, Way::direct, asio::posix::stream_descriptor{executor}};
        return fail_errno(errno, failed);
    }
    const auto path = "/proc/self/fd/" + std::to_string(fd);
    if (Fd own{::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY)})
        return LocalOutput{fd, Way::reopened, asio::posix::stream_descriptor{executor, own.release()}};
    // A socket cannot be opened again, another user's terminal may not, a pipe without a reader either.
    return LocalOutput{fd, Way::careful, asio::posix::stream_descriptor{executor, epoll.release()}};
}

Awaitable<Result<void>> LocalOutput::write(std::string_view bytes) {
    if (way_ == Way::direct) co_return write_all(fd_, bytes);
    if (way_ == Way::reopened) {
        boost::system::error_code failure;
        co_await asio::async_write(watch_, asio::buffer(bytes),
                                   asio::redirect_error(asio::use_awaitable, failure));
        if (failure) co_return fail_errno(failure.value(), failed);
        co_return Result<void>{};
    }
    while (!bytes.empty()) {
        co_await watch_.async_wait(asio::posix::stream_descriptor::wait_read, asio::use_awaitable);
        const auto some = bytes.substr(0, PIPE_BUF);  // what is ready takes that much without blocking
        if (auto written = write_all(fd_, some); !written) co_return written;
        bytes.remove_prefix(some.size());
    }
    co_return Result<void>{};
}

Result<void> write_all(int fd, std::string_view bytes) {
    while (!bytes.empty()) {
        const auto count = ::write(fd, bytes.data(), bytes.size());
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return fail_errno(errno, failed);
        bytes.remove_prefix(static_cast<std::size_t>(count));
    }
    return {};
}

}  // namespace noid::cli
