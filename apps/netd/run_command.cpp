#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "base/fd.hpp"
#include "base/log.hpp"
#include "commands.hpp"
#include "net/daemon.hpp"

namespace noid::netd {
namespace {

// Every slot has sockets of its own.
void raise_descriptor_limit() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
}

// The protocol of sd_notify(3): a datagram to the socket that systemd names.
void tell_systemd() {
    const char* path = std::getenv("NOTIFY_SOCKET");
    if (path == nullptr) return;
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::size_t length = std::strlen(path);
    if (length == 0 || length >= sizeof address.sun_path) return;
    std::memcpy(address.sun_path, path, length);
    if (address.sun_path[0] == '@') address.sun_path[0] = '\0';  // an abstract name
    const Fd socket{::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
    constexpr std::string_view word = "READY=1";
    ::sendto(socket.get(), word.data(), word.size(), MSG_NOSIGNAL,
             reinterpret_cast<const sockaddr*>(&address),
             static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length));
}

void say_ready(int ready_fd) {
    tell_systemd();
    if (ready_fd < 0) return;
    constexpr std::string_view word = "ready\n";
    [[maybe_unused]] const ssize_t told = ::write(ready_fd, word.data(), word.size());
    ::close(ready_fd);
}

}  // namespace

int run(const net::NetdConfig& config, int ready_fd) {
    log::set_up(log::Level::info, log::Format::text);
    raise_descriptor_limit();
    boost::asio::io_context loop{1};
    auto daemon = net::Daemon::start(loop, config);
    if (!daemon) {
        log::shut_down();
        fmt::print(stderr, "Error: {}\n", daemon.error().full());
        return 1;
    }
    say_ready(ready_fd);
    (*daemon)->run();
    daemon->reset();
    log::shut_down();
    return 0;
}

}  // namespace noid::netd
