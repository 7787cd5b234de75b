#include "cli/tcp_tunnel.hpp"

#include <fmt/format.h>

#include <boost/asio/write.hpp>
#include <vector>

#include "cli/failure.hpp"
#include "cli/task_group.hpp"
#include "cli/web_socket.hpp"
#include "wire/stream.hpp"

namespace noid::cli {
namespace {

using asio::ip::tcp;
using boost::system::error_code;

Awaitable<void> to_guest(tcp::socket& local, WebSocket& remote) {
    std::vector<char> buffer(wire::max_stream_payload);
    constexpr char head = static_cast<char>(wire::Channel::input);
    for (;;) {
        error_code failure;
        const auto count = co_await local.async_read_some(asio::buffer(buffer),
                                                          asio::redirect_error(asio::use_awaitable, failure));
        if (failure == asio::error::eof) break;
        if (failure) {
            remote.abort();  // reset by the local side: the guest's side must not see an orderly end
            co_return;
        }
        if (auto sent = co_await remote.write_binary({&head, 1}, {buffer.data(), count}); !sent) co_return;
    }
    co_await remote.write_text(wire::to_text(wire::InputEnd{}));
}

Awaitable<Result<void>> from_guest(WebSocket& remote, tcp::socket& local) {
    for (;;) {
        auto message = co_await remote.read();
        if (!message) co_return fail(message.error());
        if (message->kind == WebSocket::Kind::closed) co_return Result<void>{};
        error_code failure;
        if (message->kind == WebSocket::Kind::text) {
            auto said = wire::parse_server_message(message->data);
            if (!said) continue;
            if (const auto* error = std::get_if<wire::ErrorBody>(&*said))
                co_return fail(Errc::unavailable, printable(error->error));
            if (std::holds_alternative<wire::OutputEnd>(*said))
                local.shutdown(tcp::socket::shutdown_send, failure);
            continue;
        }
        if (message->data.empty() || message->data.front() != static_cast<char>(wire::Channel::output))
            continue;
        co_await asio::async_write(local, asio::buffer(message->data.substr(1)),
                                   asio::redirect_error(asio::use_awaitable, failure));
        if (failure) co_return Result<void>{};  // the local side has enough
    }
}

}  // namespace

Awaitable<Result<void>> tunnel(tcp::socket local, Account account, std::string vm, std::uint16_t port,
                               Trace trace) {
    auto remote =
        co_await WebSocket::connect(std::move(account), fmt::format("/v1/vms/{}/tcp?port={}", vm, port),
                                    WebSocket::Watch::off, std::move(trace));
    if (!remote) co_return fail(remote.error().error);
    TaskGroup upwards{co_await asio::this_coro::executor};
    upwards.spawn(to_guest(local, **remote));
    auto served = co_await from_guest(**remote, local);
    // Cancelled or not, the other direction must have ended before what it uses goes away.
    co_await ignore_cancellation();
    (*remote)->abort();
    error_code ignored;
    local.close(ignored);
    upwards.cancel();
    co_await upwards.join();
    co_return served;
}

}  // namespace noid::cli
