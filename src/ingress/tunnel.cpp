#include "ingress/tunnel.hpp"

#include <chrono>
#include <exception>
#include <utility>

namespace noid::ingress {

namespace {

using namespace std::chrono_literals;

// How long a guest may take to read what is left once both ends have closed.
constexpr auto last_bytes_limit = 30s;

Awaitable<void> carry_up(Duplex& client, GuestStream& guest) {
    while (true) {
        auto bytes = co_await client.read();
        if (bytes && bytes->empty()) {
            guest.end_writing();
            co_return;
        }
        Result<void> written;
        if (bytes) written = co_await guest.write(std::move(*bytes));
        if (!bytes || !written) break;
    }
    guest.abort();
    client.abort();
}

Awaitable<void> carry_down(Duplex& client, GuestStream& guest) {
    while (true) {
        const auto bytes = co_await guest.read();
        if (bytes && bytes->empty()) {
            client.end_writing();
            co_return;
        }
        Result<void> written;
        if (bytes) written = co_await client.write(*bytes);
        if (!bytes || !written) break;
    }
    guest.abort();
    client.abort();
}

}  // namespace

Awaitable<void> tunnel(Duplex& client, GuestStream& guest) {
    const auto executor = co_await asio::this_coro::executor;
    // Whichever breaks ends the other through abort().
    auto both = asio::experimental::make_parallel_group(
        asio::co_spawn(executor, carry_up(client, guest), asio::deferred),
        asio::co_spawn(executor, carry_down(client, guest), asio::deferred));
    const auto [order, up, down] =
        co_await both.async_wait(asio::experimental::wait_for_one_error(), asio::use_awaitable);
    if (up) std::rethrow_exception(up);
    if (down) std::rethrow_exception(down);
    co_await guest.finish(last_bytes_limit);
}

}  // namespace noid::ingress
