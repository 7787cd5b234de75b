#include "base/readiness.hpp"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "base/fd.hpp"

namespace noid {
namespace {

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

}  // namespace

void say_ready(int ready_fd) {
    tell_systemd();
    if (ready_fd < 0) return;
    constexpr std::string_view word = "ready\n";
    [[maybe_unused]] const ssize_t told = ::write(ready_fd, word.data(), word.size());
    ::close(ready_fd);
}

}  // namespace noid
