#include "agent/link.hpp"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace noid::agent {
namespace {

// Then the sessions have their turn.
constexpr int reads_per_turn = 8;

}  // namespace

Link::Link(EventLoop& loop, Fd fd, Kind kind, Handler& handler)
    : fd_{std::move(fd)}, kind_{kind}, handler_{handler}, more_{loop, [this] { read_more(); }} {
    watch_ = EventLoop::Watch{loop, fd_.get(), [this](std::uint32_t events) { ready(events); }};
}

void Link::close() noexcept {
    alive_ = false;
    more_.cancel();
    watch_.reset();
    fd_.reset();
    drop_output();
}

void Link::drop_output() noexcept {
    output_.clear();
    written_ = 0;
}

void Link::ready(std::uint32_t events) {
    if ((events & EPOLLERR) != 0 && kind_ == Kind::socket) {
        int error = 0;
        socklen_t size = sizeof error;
        if (::getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error != 0)
            return host_away();
    }
    if ((events & EPOLLOUT) != 0 && !std::exchange(writable_, true)) {
        flush();
        if (wants_output()) handler_.on_writable(*this);
    }
    // A port whose host is away is readable all the time and gives no bytes: the edge that comes with
    // the host's return brings us here.
    if (alive_ && (events & (EPOLLIN | EPOLLHUP | EPOLLRDHUP | EPOLLERR)) != 0) read_more();
}

void Link::read_more() {
    for (int reads = 0; alive_; ++reads) {
        if (reads == reads_per_turn) return more_.set(std::chrono::milliseconds{0});
        const auto space = reader_.prepare();
        const ssize_t got = ::read(fd_.get(), space.data(), space.size());
        if (got < 0 && errno == EINTR) continue;
        // ENOTCONN: a connection that is still being made.
        if (got < 0 && (errno == EAGAIN || errno == ENOTCONN)) return;
        if (got <= 0) return host_away();
        reader_.commit(static_cast<std::size_t>(got));
        while (alive_) {
            const auto frame = reader_.next();
            if (!frame)
                handler_.on_out_of_step(*this);
            else if (*frame)
                handler_.on_frame(*this, **frame);
            else
                break;
        }
    }
}

void Link::host_away() {
    // A port gives everything it has before it says this: what comes next is a new connection's.
    reader_.restart();
    drop_output();
    if (kind_ == Kind::socket) close();
    handler_.on_host_away(*this);
}

void Link::flush() {
    while (alive_ && writable_ && written_ < output_.size()) {
        const ssize_t put = ::write(fd_.get(), output_.data() + written_, output_.size() - written_);
        if (put > 0) {
            written_ += static_cast<std::size_t>(put);
        } else if (put < 0 && errno == EAGAIN) {
            writable_ = false;
        } else if (put < 0 && errno != EINTR) {
            return host_away();
        }
    }
    if (written_ == output_.size()) drop_output();
}

}  // namespace noid::agent
