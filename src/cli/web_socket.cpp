#include "cli/web_socket.hpp"

#include <fmt/format.h>

#include <array>
#include <boost/asio/experimental/channel.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>
#include <boost/beast/websocket.hpp>
#include <boost/beast/websocket/ssl.hpp>

#include "cli/http_client.hpp"
#include "cli/server_answer.hpp"
#include "cli/tls.hpp"

namespace noid::cli {
namespace {

namespace beast = boost::beast;
namespace http = beast::http;
namespace websocket = beast::websocket;
using asio::ip::tcp;
using boost::system::error_code;
using namespace std::chrono_literals;

constexpr auto connect_budget = 10'000ms;
constexpr auto goodbye_limit = 2s;
constexpr auto silence_limit = 30s;
constexpr std::size_t max_message_bytes = 64 * 1024 * 1024;
constexpr std::size_t write_buffer_bytes = 128 * 1024;  // a whole frame is masked and sent at once

auto into(error_code& failure) {
    return asio::redirect_error(asio::use_awaitable, failure);
}

// One at a time, in the order of asking.
class Turn {
  public:
    explicit Turn(const asio::any_io_executor& executor) : slot_{executor, 1} {}
    Awaitable<void> take() { co_await slot_.async_send(error_code{}, asio::use_awaitable); }
    void give_back() {
        slot_.try_receive([](error_code) {});
    }

  private:
    asio::experimental::channel<void(error_code)> slot_;
};

template <class Stream>
class WebSocketOver final : public WebSocket {
  public:
    WebSocketOver(Stream stream, Trace trace)
        : stream_{std::move(stream)}, turn_{stream_.get_executor()}, trace_{std::move(trace)} {}
    // `context` is what a TLS stream refers to.
    WebSocketOver(std::unique_ptr<asio::ssl::context> context, Stream stream, Trace trace)
        : context_{std::move(context)},
          stream_{std::move(stream)},
          turn_{stream_.get_executor()},
          trace_{std::move(trace)} {}

    Awaitable<std::expected<void, Refusal>> shake_hands(const Account& account, const std::string& target,
                                                        Watch watch) {
        beast::get_lowest_layer(stream_).expires_never();
        websocket::stream_base::timeout limits{};
        limits.handshake_timeout = connect_budget;
        limits.idle_timeout = watch == Watch::silence ? silence_limit : websocket::stream_base::none();
        limits.keep_alive_pings = watch == Watch::silence;
        stream_.set_option(limits);
        stream_.set_option(websocket::stream_base::decorator([&](websocket::request_type& request) {
            request.set(http::field::authorization, "Bearer " + account.token);
            request.set(http::field::user_agent, user_agent());
        }));
        stream_.read_message_max(max_message_bytes);
        stream_.write_buffer_bytes(write_buffer_bytes);
        stream_.auto_fragment(false);

        error_code failure;
        websocket::response_type response;
        co_await stream_.async_handshake(response, account.server.authority(), account.server.path + target,
                                         into(failure));
        if (failure == websocket::error::upgrade_declined) {
            const auto status = response.result_int();
            say(fmt::format("upgrade answered {}", status));
            co_return std::unexpected(Refusal{error_of_answer(status, response.body()), status});
        }
        if (failure) {
            say(fmt::format("upgrade failed: {}", failure.message()));
            co_return std::unexpected(
                Refusal{Error{Errc::unavailable, "connection error: " + failure.message(), {}}, 0});
        }
        say("upgrade answered 101");
        co_return std::expected<void, Refusal>{};
    }

    Awaitable<Result<Message>> read() override {
        incoming_.consume(incoming_.size());
        error_code failure;
        co_await stream_.async_read(incoming_, into(failure));
        if (failure == websocket::error::closed) {
            say(fmt::format("closed by the server ({})", stream_.reason().code));
            co_return Message{};
        }
        if (failure) co_return lost(failure);
        const auto data = incoming_.cdata();
        co_return Message{stream_.got_text() ? Kind::text : Kind::binary,
                          {static_cast<const char*>(data.data()), data.size()}};
    }

    Awaitable<Result<void>> write_text(std::string_view text) override {
        co_return co_await write(true, {}, text);
    }
    Awaitable<Result<void>> write_binary(std::string_view head, std::string_view payload) override {
        co_return co_await write(false, head, payload);
    }

    Awaitable<void> close() override {
        stream_.set_option(
            websocket::stream_base::timeout{goodbye_limit, websocket::stream_base::none(), false});
        error_code ignored;
        co_await stream_.async_close(websocket::close_code::normal, into(ignored));
    }

    void abort() override { beast::get_lowest_layer(stream_).close(); }

  private:
    Awaitable<Result<void>> write(bool text, std::string_view head, std::string_view payload) {
        co_await turn_.take();
        struct GiveBack {
            Turn& turn;
            ~GiveBack() { turn.give_back(); }
        } const give_back{turn_};
        stream_.text(text);
        const std::array buffers{asio::buffer(head), asio::buffer(payload)};
        error_code failure;
        co_await stream_.async_write(buffers, into(failure));
        if (failure) co_return lost(failure);
        co_return Result<void>{};
    }

    std::unexpected<Error> lost(const error_code& failure) {
        const auto why =
            failure == beast::error::timeout ? std::string{"the server fell silent"} : failure.message();
        say("connection lost: " + why);
        return fail(Errc::unavailable, "connection lost: " + why);
    }
    void say(const std::string& text) {
        if (trace_) trace_(text);
    }

    std::unique_ptr<asio::ssl::context> context_;
    websocket::stream<Stream> stream_;
    beast::flat_buffer incoming_;
    Turn turn_;
    Trace trace_;
};

using Plain = WebSocketOver<beast::tcp_stream>;
using Secure = WebSocketOver<asio::ssl::stream<beast::tcp_stream>>;

}  // namespace

Awaitable<std::expected<std::unique_ptr<WebSocket>, WebSocket::Refusal>> WebSocket::connect(
    Account account, std::string target, Watch watch, Trace trace) {
    const auto refuse = [](std::string why) {
        return std::unexpected(Refusal{Error{Errc::unavailable, "connection error: " + why, {}}, 0});
    };
    tcp::socket socket{co_await asio::this_coro::executor};
    const auto& server = account.server;
    if (auto dialled = co_await dial(socket, server.host, server.port, connect_budget, trace); !dialled)
        co_return refuse(dialled.error().what);

    beast::tcp_stream tcp_stream{std::move(socket)};
    if (!server.tls) {
        auto plain = std::make_unique<Plain>(std::move(tcp_stream), trace);
        auto greeted = co_await plain->shake_hands(account, target, watch);
        if (!greeted) co_return std::unexpected(greeted.error());
        co_return plain;
    }
    auto made = make_tls_context();
    if (!made) co_return refuse(made.error().what);
    auto context = std::make_unique<asio::ssl::context>(std::move(*made));
    asio::ssl::stream<beast::tcp_stream> tls_stream{std::move(tcp_stream), *context};
    if (auto expected = expect_host(tls_stream.native_handle(), server.host); !expected)
        co_return refuse(expected.error().what);
    error_code failure;
    beast::get_lowest_layer(tls_stream).expires_after(connect_budget);
    co_await tls_stream.async_handshake(asio::ssl::stream_base::client, into(failure));
    if (failure) co_return refuse(describe_tls_failure(tls_stream.native_handle(), failure));
    auto secure = std::make_unique<Secure>(std::move(context), std::move(tls_stream), trace);
    auto greeted = co_await secure->shake_hands(account, target, watch);
    if (!greeted) co_return std::unexpected(greeted.error());
    co_return secure;
}

}  // namespace noid::cli
