#include "cli/dial.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/redirect_error.hpp>
#include <sstream>
#include <vector>

namespace noid::cli {
namespace {

using asio::ip::tcp;
using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr auto limit_per_address = 2000ms;

std::string spell(const tcp::endpoint& endpoint) {
    std::ostringstream text;
    text << endpoint;
    return text.str();
}

Awaitable<Result<void>> connect(tcp::socket& socket, tcp::endpoint endpoint) {
    boost::system::error_code failure;
    co_await socket.async_connect(endpoint, asio::redirect_error(asio::use_awaitable, failure));
    if (failure) co_return fail(Errc::unavailable, failure.message());
    co_return Result<void>{};
}

Awaitable<Result<std::vector<tcp::endpoint>>> resolve(std::string host, std::uint16_t port) {
    tcp::resolver resolver{co_await asio::this_coro::executor};
    boost::system::error_code failure;
    auto found = co_await resolver.async_resolve(host, std::to_string(port), tcp::resolver::numeric_service,
                                                 asio::redirect_error(asio::use_awaitable, failure));
    if (failure) co_return fail(Errc::unavailable, failure.message());
    std::vector<tcp::endpoint> endpoints{found.begin(), found.end()};
    std::ranges::stable_partition(endpoints, [](const auto& each) { return each.address().is_v4(); });
    co_return endpoints;
}

std::chrono::milliseconds remaining(Clock::time_point deadline) {
    return std::max(1ms, std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()));
}

}  // namespace

Awaitable<Result<void>> dial(tcp::socket& socket, std::string host, std::uint16_t port,
                             std::chrono::milliseconds budget, Trace trace) {
    const auto deadline = Clock::now() + budget;
    const auto say = [&](const std::string& text) {
        if (trace) trace(text);
    };
    say(fmt::format("resolving {}", host));
    auto endpoints = co_await within(budget, resolve(host, port));
    if (!endpoints || endpoints->empty()) {
        const auto why = endpoints ? "no address" : endpoints.error().what;
        co_return fail(Errc::unavailable, fmt::format("cannot find {}: {}", host, why));
    }
    Error last;
    for (std::size_t i = 0; i < endpoints->size(); ++i) {
        const auto& endpoint = (*endpoints)[i];
        const bool is_last = i + 1 == endpoints->size();
        say(fmt::format("connecting to {}", spell(endpoint)));
        const auto limit = is_last ? remaining(deadline) : std::min(remaining(deadline), limit_per_address);
        auto connected = co_await within(limit, connect(socket, endpoint));
        if (connected) {
            boost::system::error_code ignored;
            socket.set_option(tcp::no_delay{true}, ignored);
            socket.set_option(asio::socket_base::keep_alive{true}, ignored);
            say(fmt::format("connected to {}", spell(endpoint)));
            co_return Result<void>{};
        }
        const auto why =
            connected.error().code == Errc::timed_out ? "no answer in time" : connected.error().what;
        last = Error{Errc::unavailable, fmt::format("cannot connect to {}: {}", spell(endpoint), why), {}};
        say(last.what);
        boost::system::error_code ignored;
        socket.close(ignored);
        if (Clock::now() >= deadline) break;
    }
    co_return fail(last);
}

}  // namespace noid::cli
