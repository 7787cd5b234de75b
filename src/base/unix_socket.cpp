#include "base/unix_socket.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace noid {

namespace {

Result<sockaddr_un> address_in(const Fd& directory, const std::string& name) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string path = "/proc/self/fd/" + std::to_string(directory.get()) + "/" + name;
    if (path.size() >= sizeof address.sun_path) return fail(Errc::invalid, "socket name too long: " + name);
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    return address;
}

}  // namespace

Result<Fd> listen_unix_at(const Fd& directory, const std::string& name, int backlog) {
    const std::string unfinished = name + ".new";
    const auto address = address_in(directory, unfinished);
    if (!address) return fail(address.error());
    Fd socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (!socket) return fail_errno(errno, "cannot make a socket");
    if (::unlinkat(directory.get(), unfinished.c_str(), 0) != 0 && errno != ENOENT)
        return fail_errno(errno, "cannot remove the old socket " + unfinished);
    // On Linux, bind() creates the file with the socket's own mode: no moment in which others may connect.
    if (::fchmod(socket.get(), 0600) != 0) return fail_errno(errno, "cannot set the mode of socket " + name);
    if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) != 0)
        return fail_errno(errno, "cannot bind socket " + name);
    if (::listen(socket.get(), backlog) != 0) return fail_errno(errno, "cannot listen at socket " + name);
    // Whoever waits for the name to appear can connect at once.
    if (::renameat(directory.get(), unfinished.c_str(), directory.get(), name.c_str()) != 0)
        return fail_errno(errno, "cannot put socket " + name + " in place");
    return socket;
}

Awaitable<Result<asio::local::stream_protocol::socket>> connect_unix_at(const Fd& directory,
                                                                        std::string name) {
    const auto address = address_in(directory, name);
    if (!address) co_return fail(address.error());
    const asio::local::stream_protocol::endpoint endpoint{std::string{address->sun_path}};
    asio::local::stream_protocol::socket socket{co_await asio::this_coro::executor};
    boost::system::error_code error;
    co_await socket.async_connect(endpoint, asio::redirect_error(asio::use_awaitable, error));
    if (!error) co_return std::move(socket);
    if (error == boost::system::errc::connection_refused)
        co_return fail(Errc::unavailable, "nobody listens at socket " + name);
    co_return fail_errno(error.value(), "cannot connect to socket " + name);
}

Result<Fd> connect_unix_at_once(const Fd& directory, const std::string& name) {
    const auto address = address_in(directory, name);
    if (!address) return fail(address.error());
    Fd socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    if (!socket) return fail_errno(errno, "cannot make a socket");
    if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) == 0)
        return socket;
    if (errno == ECONNREFUSED || errno == EAGAIN)
        return fail(Errc::unavailable, "nobody listens at socket " + name);
    return fail_errno(errno, "cannot connect to socket " + name);
}

}  // namespace noid
