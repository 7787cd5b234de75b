#include "netclient/socket_watch.hpp"

#include <sys/inotify.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "base/fd.hpp"

namespace noid::netclient {

namespace fs = std::filesystem;

SocketWatch::SocketWatch(asio::any_io_executor executor, const fs::path& socket) {
    fs::path directory = socket.parent_path();
    name_ = socket.filename().string();
    std::error_code ignored;
    while (directory.has_relative_path() && !fs::is_directory(directory, ignored)) {
        name_ = directory.filename().string();
        directory = directory.parent_path();
    }
    Fd events{::inotify_init1(IN_NONBLOCK | IN_CLOEXEC)};
    constexpr std::uint32_t coming = IN_CREATE | IN_MOVED_TO | IN_ATTRIB;
    if (events && ::inotify_add_watch(events.get(), directory.c_str(), coming) >= 0)
        events_.emplace(std::move(executor), events.release());
}

Awaitable<Result<void>> SocketWatch::until_named() {
    while (true) {
        boost::system::error_code error;
        co_await events_->async_wait(asio::posix::stream_descriptor::wait_read,
                                     asio::redirect_error(asio::use_awaitable, error));
        if (error) co_return fail_errno(error.value(), "cannot watch for a socket");
        alignas(inotify_event) std::array<char, 4096> buffer{};
        ssize_t got = 0;
        while ((got = ::read(events_->native_handle(), buffer.data(), buffer.size())) > 0) {
            for (const char* at = buffer.data(); at < buffer.data() + got;) {
                const auto* event = reinterpret_cast<const inotify_event*>(at);
                if (event->len > 0 && name_ == event->name) co_return Result<void>{};
                at += sizeof *event + event->len;
            }
        }
    }
}

Awaitable<void> SocketWatch::changed(std::chrono::milliseconds limit) {
    if (events_) {
        static_cast<void>(co_await within(limit, until_named()));
        co_return;
    }
    asio::steady_timer timer{co_await asio::this_coro::executor, limit};
    co_await timer.async_wait(asio::use_awaitable);
}

}  // namespace noid::netclient
