#include "agent/tcp_connect.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

namespace noid::agent {

using proto::OutputStream;

namespace {

constexpr std::size_t read_size = 64 * 1024;
constexpr int reads_per_turn = 8;

struct Address {
    sockaddr_storage storage{};
    socklen_t size = 0;
};

// Numeric, or "localhost": a static program has no resolver.
std::optional<Address> address_of(const std::string& host, std::uint16_t port) {
    const char* const text = host == "localhost" ? "127.0.0.1" : host.c_str();
    Address address;
    if (auto* v4 = reinterpret_cast<sockaddr_in*>(&address.storage);
        ::inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        address.size = sizeof *v4;
        return address;
    }
    if (auto* v6 = reinterpret_cast<sockaddr_in6*>(&address.storage);
        ::inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(port);
        address.size = sizeof *v6;
        return address;
    }
    return std::nullopt;
}

}  // namespace

TcpConnect::TcpConnect(Context& context, proto::GuestSession& session, proto::TcpConnect request)
    : context_{context}, session_{session}, request_{std::move(request)}, more_{context.loop, [this] {
                                                                                    pump_output();
                                                                                }} {}

std::string TcpConnect::describe() const {
    return request_.host + ":" + std::to_string(request_.port);
}

void TcpConnect::start() {
    const auto address = address_of(request_.host, request_.port);
    if (!address) {
        return end_failed(
            session_, {Errc::invalid, "'" + request_.host + "' is neither an IP address nor \"localhost\""});
    }
    socket_.reset(::socket(address->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket_) return fail_now(errno);
    const int on = 1;
    ::setsockopt(socket_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address->storage), address->size) != 0 &&
        errno != EINPROGRESS)
        return fail_now(errno);
    watch_ = EventLoop::Watch{context_.loop, socket_.get(), [this](std::uint32_t events) { ready(events); }};
}

void TcpConnect::ready(std::uint32_t events) {
    if (!connected_) {
        int error = 0;
        socklen_t size = sizeof error;
        ::getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &error, &size);
        if (error != 0) return fail_now(error);
        if ((events & EPOLLOUT) == 0) return;
        connected_ = true;
        session_.opened({});
        session_.end_output(OutputStream::err);
    }
    readable_ |= (events & (EPOLLIN | EPOLLHUP | EPOLLRDHUP | EPOLLERR)) != 0;
    writable_ |= (events & (EPOLLOUT | EPOLLERR)) != 0;
    pump_input();
    pump_output();
}

void TcpConnect::pump_input() {
    while (writable_ && !session_.waiting_input().empty()) {
        const auto bytes = session_.waiting_input();
        const ssize_t put = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (put > 0)
            session_.input_taken(static_cast<std::size_t>(put));
        else if (errno == EAGAIN)
            writable_ = false;
        else if (errno != EINTR)
            return fail_now(errno);
    }
    if (!connected_ || input_ended_ || !session_.input_finished()) return;
    input_ended_ = true;
    ::shutdown(socket_.get(), SHUT_WR);
    end_when_both_ended();
}

void TcpConnect::pump_output() {
    for (int reads = 0; socket_ && readable_ && !output_ended_;) {
        if (reads++ == reads_per_turn) return more_.set(std::chrono::milliseconds{0});
        const auto space = session_.output_space(OutputStream::out, read_size);
        if (space.empty()) return;
        const ssize_t got = ::recv(socket_.get(), space.data(), space.size(), 0);
        if (got > 0) {
            session_.output_written(OutputStream::out, static_cast<std::size_t>(got));
        } else if (got == 0) {
            output_ended_ = true;
            session_.end_output(OutputStream::out);
            end_when_both_ended();
        } else if (errno == EAGAIN) {
            readable_ = false;
        } else if (errno != EINTR) {
            return fail_now(errno);
        }
    }
}

void TcpConnect::end_when_both_ended() {
    if (!input_ended_ || !output_ended_) return;
    watch_.reset();
    socket_.reset();
    session_.end({});
}

void TcpConnect::fail_now(int error_number) {
    watch_.reset();
    socket_.reset();
    readable_ = writable_ = false;
    end_failed(session_, {Errc::unavailable, "connect to " + describe() + ": " + std::strerror(error_number),
                          std::error_code{error_number, std::generic_category()}});
}

}  // namespace noid::agent
