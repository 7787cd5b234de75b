#include "api/server_web_socket.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/websocket.hpp>
#include <chrono>
#include <utility>

#include "base/log.hpp"
#include "wire/exec.hpp"
#include "wire/names.hpp"
#include "wire/server_info.hpp"

namespace noid::api {

namespace {

namespace beast = boost::beast;
namespace http = beast::http;
namespace websocket = beast::websocket;
using namespace std::chrono_literals;
using Socket = asio::generic::stream_protocol::socket;

constexpr auto as_result = asio::as_tuple(asio::use_awaitable);
constexpr auto ping_interval = 15s;
// A zero window is probed every two minutes at the longest; a peer that acknowledges nothing for
// longer than that is gone.
constexpr auto peer_lost_after = 5min;
constexpr auto close_limit = 5s;

Error broken(const beast::error_code& error) {
    return Error{Errc::unavailable, "the client's connection broke", error};
}

class BeastWebSocket final : public ServerWebSocket, public std::enable_shared_from_this<BeastWebSocket> {
  public:
    explicit BeastWebSocket(Socket socket)
        : socket_{std::move(socket)}, turn_{socket_.get_executor()}, farewell_{socket_.get_executor()} {
        websocket::stream_base::timeout limits{};
        limits.handshake_timeout = close_limit;  // bounds the closing handshake too
        limits.idle_timeout = websocket::stream_base::none();
        socket_.set_option(limits);
        socket_.read_message_max(wire::max_message);
        socket_.auto_fragment(false);
        turn_.expires_at(asio::steady_timer::time_point::max());
    }

    Awaitable<Result<void>> answer_handshake(std::string key) {
        http::request<http::empty_body> handshake{http::verb::get, "/", 11};
        handshake.set(http::field::host, "noid-server");
        handshake.set(http::field::upgrade, "websocket");
        handshake.set(http::field::connection, "Upgrade");
        handshake.set(http::field::sec_websocket_version, "13");
        handshake.set(http::field::sec_websocket_key, key);
        const auto [error] = co_await socket_.async_accept(handshake, as_result);
        if (error) co_return fail(broken(error));
        co_return Result<void>{};
    }

    Awaitable<Result<Message>> read() override {
        buffer_.consume(buffer_.size());
        const auto [error, size] = co_await socket_.async_read(buffer_, as_result);
        if (error == websocket::error::closed) co_return Message{};
        if (error == websocket::error::message_too_big)
            co_return fail(Errc::too_large, "message larger than 1 MiB");
        if (error) co_return fail(broken(error));
        const std::string_view data{static_cast<const char*>(buffer_.cdata().data()), buffer_.size()};
        co_return Message{socket_.got_text() ? Message::Kind::text : Message::Kind::binary, data};
    }

    Awaitable<Result<void>> write_text(std::string text) override {
        const std::array<asio::const_buffer, 1> buffers{asio::buffer(text)};
        co_return co_await write(false, buffers);
    }

    Awaitable<Result<void>> write_binary(wire::Channel channel, std::string_view payload) override {
        const auto head = static_cast<unsigned char>(channel);
        const std::array<asio::const_buffer, 2> buffers{asio::buffer(&head, 1),
                                                        asio::buffer(payload.data(), payload.size())};
        co_return co_await write(true, buffers);
    }

    Awaitable<bool> close() override {
        if (std::exchange(closing_, true)) co_return false;
        const auto [error] =
            co_await socket_.async_close(websocket::close_reason{websocket::close_code::none}, as_result);
        co_return !error;
    }

    Awaitable<void> keep_alive() override {
        asio::steady_timer timer{socket_.get_executor()};
        while (true) {
            timer.expires_after(ping_interval);
            co_await timer.async_wait(asio::use_awaitable);
            if (peer_lost()) co_return;
            // Behind a write that waits for a slow reader a ping would only queue up.
            if (writing_) continue;
            const auto [error] = co_await socket_.async_ping({}, as_result);
            if (error) co_return;
        }
    }

    void go_away() override { say_goodbye({}, websocket::close_code::going_away); }

    void end(const Error& why) override {
        const wire::ErrorBody body{why.what, std::string{noid::name_of(why.code)}, {}};
        say_goodbye(wire::to_text(body), {websocket::close_code::policy_error, wire::clipped(why.what, 100)});
    }

    void abort() override {
        beast::error_code ignored;
        socket_.next_layer().close(ignored);
    }

  private:
    template <class Buffers>
    Awaitable<Result<void>> write(bool binary, const Buffers& buffers) {
        while (writing_) {
            // Woken by cancel() when it is somebody's turn; a cancellation of this coroutine throws at
            // the next co_await.
            co_await turn_.async_wait(as_result);
        }
        writing_ = true;
        socket_.binary(binary);
        const auto [error, size] = co_await socket_.async_write(buffers, as_result);
        writing_ = false;
        turn_.cancel();
        if (error) co_return fail(broken(error));
        co_return Result<void>{};
    }

    // Apart from whoever uses the socket now: its reader gets `closed`.
    void say_goodbye(std::string last_words, websocket::close_reason reason) {
        if (std::exchange(closing_, true)) return;
        // A peer that reads nothing would keep the farewell waiting.
        farewell_.expires_after(close_limit);
        farewell_.async_wait([weak = weak_from_this()](const beast::error_code& error) {
            const auto self = weak.lock();
            if (self && !error) self->abort();
        });
        auto farewell = [self = shared_from_this(), last_words = std::move(last_words),
                         reason]() -> Awaitable<void> {
            if (!last_words.empty()) {
                if (const auto sent = co_await self->write_text(last_words); !sent) co_return;
            }
            co_await self->socket_.async_close(reason, as_result);
            self->farewell_.cancel();
        };
        asio::co_spawn(socket_.get_executor(), std::move(farewell), [](const std::exception_ptr& thrown) {
            if (thrown) log::exception("closing a WebSocket", thrown);
        });
    }

    bool peer_lost() {
        ::tcp_info info{};
        ::socklen_t size = sizeof info;
        const int fd = socket_.next_layer().native_handle();
        if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return false;  // a Unix socket
        return info.tcpi_unacked > 0 && std::chrono::milliseconds{info.tcpi_last_ack_recv} > peer_lost_after;
    }

    websocket::stream<Socket> socket_;
    beast::flat_buffer buffer_;
    asio::steady_timer turn_;  // cancelled when a write ends
    asio::steady_timer farewell_;
    bool writing_ = false;
    bool closing_ = false;
};

}  // namespace

Awaitable<Result<std::shared_ptr<ServerWebSocket>>> ServerWebSocket::accept(Socket socket, std::string key) {
    auto accepted = std::make_shared<BeastWebSocket>(std::move(socket));
    if (auto answered = co_await accepted->answer_handshake(std::move(key)); !answered)
        co_return fail(std::move(answered).error());
    co_return accepted;
}

}  // namespace noid::api
