#include "cli/tcp_tunnel.hpp"

#include <boost/asio/write.hpp>
#include <utility>

#include "cli/task_group.hpp"

namespace noid::cli {
namespace {

using asio::ip::tcp;
using boost::system::error_code;

}  // namespace

TcpTunnel::TcpTunnel(tcp::socket local, RemoteSession::Options options, std::uint16_t port)
    : local_{std::move(local)}, remote_{local_.get_executor(), std::move(options)}, port_{port} {}

Awaitable<Result<void>> TcpTunnel::run() {
    TaskGroup upwards{local_.get_executor()};
    TaskGroup downwards{local_.get_executor()};
    upwards.spawn(to_guest());
    downwards.spawn(from_guest());
    const auto ending = co_await remote_.run(RemoteSession::Connect{port_});
    upwards.cancel();
    co_await upwards.join();
    if (std::holds_alternative<RemoteSession::Abandoned>(ending)) downwards.cancel();
    co_await downwards.join();
    if (auto error = RemoteSession::error_of(ending)) co_return fail(std::move(*error));
    co_return Result<void>{};
}

Awaitable<void> TcpTunnel::to_guest() {
    while (co_await remote_.room_for_input()) {
        std::string bytes(wire::max_stream_payload, '\0');
        error_code failure;
        const auto count = co_await local_.async_read_some(
            asio::buffer(bytes), asio::redirect_error(asio::use_awaitable, failure));
        if (failure == asio::error::eof) {
            remote_.end_input();
            co_return;
        }
        if (failure) {
            remote_.cancel();  // reset by the local side: the guest's side must not see an orderly end
            co_return;
        }
        bytes.resize(count);
        remote_.send_input(std::move(bytes));
    }
}

Awaitable<void> TcpTunnel::from_guest() {
    error_code failure;
    for (;;) {
        const auto bytes = co_await remote_.next_output(wire::Channel::output);
        if (bytes.empty()) break;
        if (!failure) {
            co_await asio::async_write(local_, asio::buffer(bytes),
                                       asio::redirect_error(asio::use_awaitable, failure));
            if (failure) remote_.cancel();  // the local side takes no more
        }
        remote_.written(wire::Channel::output, bytes.size());
    }
    error_code ignored;
    local_.shutdown(tcp::socket::shutdown_send, ignored);
}

}  // namespace noid::cli
