#include "net/request_server.hpp"

#include <fmt/format.h>

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>
#include <cerrno>
#include <vector>

#include "base/file.hpp"
#include "base/log.hpp"
#include "base/unix_socket.hpp"
#include "net/protocol.hpp"

namespace noid::net {

using asio::local::stream_protocol;
using namespace std::chrono_literals;

namespace {

constexpr std::size_t max_sessions = 64;
constexpr auto time_to_ask = 5s;
constexpr auto time_to_take_the_answer = 5s;

struct Peer {
    uid_t user;
    std::vector<gid_t> groups;
};

// Who the kernel says is at the other end, as of when it connected.
Result<Peer> peer_of(int socket) {
    ucred credentials{};
    socklen_t size = sizeof credentials;
    if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0)
        return fail_errno(errno, "cannot tell who asks");
    constexpr std::size_t most_groups = 65536;  // NGROUPS_MAX
    std::vector<gid_t> groups(most_groups);
    size = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
    if (::getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size) != 0)
        return fail_errno(errno, "cannot tell the groups of who asks");
    groups.resize(size / sizeof(gid_t));
    groups.push_back(credentials.gid);
    return Peer{credentials.uid, std::move(groups)};
}

// A line, or what came before the end of the stream. Empty: nothing came.
Awaitable<Result<std::string>> read_line(stream_protocol::socket& socket) {
    std::string line;
    boost::system::error_code error;
    const std::size_t used =
        co_await asio::async_read_until(socket, asio::dynamic_buffer(line, max_request_bytes), '\n',
                                        asio::redirect_error(asio::use_awaitable, error));
    if (error == asio::error::not_found) co_return fail(Errc::too_large, "invalid request: line too long");
    if (error && error != asio::error::eof) co_return std::string{};
    if (!error) line.resize(used - 1);
    co_return line;
}

Awaitable<Result<std::size_t>> write_line(stream_protocol::socket& socket, const std::string& line) {
    boost::system::error_code error;
    const std::size_t written = co_await asio::async_write(socket, asio::buffer(line),
                                                           asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return fail(Errc::unavailable, error.message());
    co_return written;
}

}  // namespace

RequestServer::RequestServer(stream_protocol::acceptor acceptor, std::optional<gid_t> group, Handler handler)
    : acceptor_{std::move(acceptor)},
      group_{group},
      handler_{std::move(handler)},
      session_ended_{std::make_unique<asio::steady_timer>(acceptor_.get_executor(),
                                                          asio::steady_timer::time_point::max())} {}

Result<RequestServer> RequestServer::open(asio::any_io_executor executor, const std::filesystem::path& path,
                                          std::optional<gid_t> group, Handler handler) {
    std::error_code error;
    std::filesystem::create_directories(path.parent_path(), error);
    const auto directory = open_directory(path.parent_path());
    if (!directory) return fail(directory.error());
    constexpr int backlog = 128;
    auto socket = listen_unix_at(*directory, path.filename().string(), backlog);
    if (!socket) return fail(std::move(socket.error()));
    if (group) {
        const auto name = path.filename().string();
        constexpr mode_t for_the_group = 0660;
        if (::fchownat(directory->get(), name.c_str(), 0, *group, AT_SYMLINK_NOFOLLOW) != 0 ||
            ::fchmodat(directory->get(), name.c_str(), for_the_group, 0) != 0)
            return fail_errno(errno, "cannot give the socket to its group");
    }
    stream_protocol::acceptor acceptor{std::move(executor), stream_protocol{}, socket->release()};
    return RequestServer{std::move(acceptor), group, std::move(handler)};
}

void RequestServer::stop() {
    boost::system::error_code ignored;
    acceptor_.close(ignored);
    for (auto& session : sessions_) {
        if (session.is_silent) session.socket.close(ignored);
        if (session.feed) session.feed->close();
    }
}

bool RequestServer::is_full() const {
    const auto asking =
        std::count_if(sessions_.begin(), sessions_.end(), [](const Session& each) { return !each.feed; });
    return static_cast<std::size_t>(asking) >= max_sessions;
}

Awaitable<void> RequestServer::wait_for_an_end() {
    boost::system::error_code woken;
    co_await session_ended_->async_wait(asio::redirect_error(asio::use_awaitable, woken));
}

// The first session that has not asked yet ends; if all have asked, none does.
void RequestServer::make_room() {
    const auto silent = std::find_if(sessions_.begin(), sessions_.end(), [](const Session& each) {
        return each.is_silent && each.socket.is_open();
    });
    if (silent == sessions_.end()) return;
    boost::system::error_code ignored;
    silent->socket.close(ignored);
}

Awaitable<void> RequestServer::run() {
    while (acceptor_.is_open()) {
        while (is_full()) co_await wait_for_an_end();
        boost::system::error_code error;
        Socket socket{acceptor_.get_executor()};
        co_await acceptor_.async_accept(socket, asio::redirect_error(asio::use_awaitable, error));
        if (!acceptor_.is_open()) break;
        if (error) {
            // Out of descriptors, say: whoever asks waits in the queue, and so does this loop.
            log::error("cannot accept", {{"error", error.message()}});
            asio::steady_timer pause{acceptor_.get_executor(), 100ms};
            co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, error));
            continue;
        }
        sessions_.push_back({std::move(socket)});
        const auto session = std::prev(sessions_.end());
        asio::co_spawn(acceptor_.get_executor(), serve(session), [this, session](std::exception_ptr thrown) {
            if (thrown) log::exception("request", thrown);
            sessions_.erase(session);
            session_ended_->cancel();
        });
        if (is_full()) make_room();
    }
    while (!sessions_.empty()) co_await wait_for_an_end();
}

Awaitable<void> RequestServer::serve(Sessions::iterator session) {
    auto line = co_await within(time_to_ask, read_line(session->socket));
    session->is_silent = false;
    if (!session->socket.is_open() || (line && line->empty())) co_return;
    if (!line && line.error().code == Errc::timed_out) co_return;
    Answer reply{""};
    if (line) {
        reply = co_await answer(session->socket, std::move(*line));
    } else {
        reply.line = error_reply(line.error(), ErrorShape::plain);
    }
    reply.line += '\n';
    // A client that does not take its answer has lost interest.
    const auto taken = co_await within(time_to_take_the_answer, write_line(session->socket, reply.line));
    if (!taken || !reply.feed || !acceptor_.is_open()) co_return;
    session->feed = std::move(reply.feed);
    session_ended_->cancel();  // it makes room for others
    co_await follow(session);
}

Awaitable<void> RequestServer::follow(Sessions::iterator session) {
    const auto feed = session->feed;
    Socket& socket = session->socket;
    // Nothing is to come from this client but its end.
    const auto until_it_goes = [](Socket& client, std::shared_ptr<LineFeed> followed) -> Awaitable<void> {
        std::array<char, 1> unasked{};
        boost::system::error_code gone;
        co_await client.async_read_some(asio::buffer(unasked),
                                        asio::redirect_error(asio::use_awaitable, gone));
        followed->close();
    };
    const auto give = [](Socket& client, std::shared_ptr<LineFeed> followed) -> Awaitable<void> {
        while (auto line = co_await followed->next()) {
            *line += '\n';
            const auto taken = co_await within(time_to_take_the_answer, write_line(client, *line));
            if (!taken) break;
        }
        boost::system::error_code ignored;
        client.close(ignored);
    };
    auto executor = co_await asio::this_coro::executor;
    auto both = asio::experimental::make_parallel_group(
        asio::co_spawn(executor, until_it_goes(socket, feed), asio::deferred),
        asio::co_spawn(executor, give(socket, feed), asio::deferred));
    co_await both.async_wait(asio::experimental::wait_for_all(), asio::use_awaitable);
}

Awaitable<RequestServer::Answer> RequestServer::answer(Socket& socket, std::string line) {
    const auto peer = peer_of(socket.native_handle());
    if (!peer) co_return Answer{error_reply(peer.error(), ErrorShape::plain)};
    const auto& groups = peer->groups;
    const bool may_ask =
        peer->user == 0 || (group_ && std::find(groups.begin(), groups.end(), *group_) != groups.end());
    if (!may_ask) {
        log::warn("refused", {{"uid", std::to_string(peer->user)}});
        co_return Answer{error_reply(Error{Errc::forbidden, "permission denied", {}}, ErrorShape::with_code)};
    }
    co_return co_await handler_(std::move(line), peer->user);
}

}  // namespace noid::net
