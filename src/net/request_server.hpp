#pragma once

#include <sys/types.h>

#include <boost/asio/local/stream_protocol.hpp>
#include <filesystem>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>

#include "base/async.hpp"
#include "base/error.hpp"
#include "net/line_feed.hpp"

namespace noid::net {

// Listens on a Unix socket and answers one line per connection. Root and the members of one group may
// ask. No client can hold up another: there is a bound on connections, and when it is reached, the one
// that has been silent longest makes room. Those that follow a feed do not count; whoever gives out feeds
// bounds them. Runs on one executor.
class RequestServer {
  public:
    // The reply to a line, without the newline, and what follows it, if anything: then the connection stays
    // until the client goes away or the feed ends.
    struct Answer {
        explicit Answer(std::string reply, std::shared_ptr<LineFeed> more = nullptr)
            : line{std::move(reply)}, feed{std::move(more)} {}
        std::string line;
        std::shared_ptr<LineFeed> feed;
    };
    // `user`: who asks.
    using Handler = std::function<Awaitable<Answer>(std::string line, uid_t user)>;

    // Takes the place of a socket that an earlier daemon left. `group` nullopt: root only.
    [[nodiscard]] static Result<RequestServer> open(asio::any_io_executor executor,
                                                    const std::filesystem::path& path,
                                                    std::optional<gid_t> group, Handler handler);
    RequestServer(RequestServer&&) = default;

    // Accepts until stop() is called; returns when the last client has its answer.
    Awaitable<void> run();
    void stop();

  private:
    using Socket = asio::local::stream_protocol::socket;
    struct Session {
        Socket socket;
        bool is_silent = true;  // has not sent its request
        std::shared_ptr<LineFeed> feed = {};
    };
    using Sessions = std::list<Session>;

    RequestServer(asio::local::stream_protocol::acceptor acceptor, std::optional<gid_t> group,
                  Handler handler);
    Awaitable<void> serve(Sessions::iterator session);
    Awaitable<Answer> answer(Socket& socket, std::string line);
    Awaitable<void> follow(Sessions::iterator session);
    [[nodiscard]] bool is_full() const;
    Awaitable<void> wait_for_an_end();
    void make_room();

    asio::local::stream_protocol::acceptor acceptor_;
    std::optional<gid_t> group_;
    Handler handler_;
    Sessions sessions_;
    std::unique_ptr<asio::steady_timer> session_ended_;  // never expires: cancelled to wake run()
};

}  // namespace noid::net
