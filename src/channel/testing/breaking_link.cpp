#include "channel/testing/breaking_link.hpp"

#include <algorithm>
#include <array>
#include <boost/asio/local/connect_pair.hpp>
#include <boost/asio/write.hpp>
#include <limits>

namespace noid::channel::testing {

Awaitable<Result<BreakingLink::Socket>> BreakingLink::connect() {
    boost::system::error_code error;
    Socket agent{executor_};
    agent.connect({path_}, error);
    if (error) co_return fail(Errc::unavailable, "the agent does not listen");
    Socket near{executor_};
    Socket far{executor_};
    asio::local::connect_pair(near, far);
    auto relay = std::make_shared<Relay>(
        std::move(far), std::move(agent),
        mended_ ? std::numeric_limits<std::size_t>::max() : static_cast<std::size_t>(life_(random_)));
    const auto finished = [](std::exception_ptr thrown) {
        if (thrown) std::rethrow_exception(thrown);
    };
    asio::co_spawn(executor_, carry(relay, relay->host, relay->agent), finished);
    asio::co_spawn(executor_, carry(relay, relay->agent, relay->host), finished);
    co_return near;
}

Awaitable<void> BreakingLink::carry(std::shared_ptr<Relay> relay, Socket& from, Socket& to) {
    std::array<char, 65536> buffer;
    boost::system::error_code error;
    while (!error) {
        const std::size_t got = co_await from.async_read_some(
            asio::buffer(buffer), asio::redirect_error(asio::use_awaitable, error));
        if (error) break;
        const std::size_t carried = std::min(got, relay->left);
        relay->left -= carried;
        co_await asio::async_write(to, asio::buffer(buffer.data(), carried),
                                   asio::redirect_error(asio::use_awaitable, error));
        if (relay->left == 0) {
            if (relay->host.is_open()) ++broken_;
            break;
        }
    }
    relay->host.close(error);
    relay->agent.close(error);
}

}  // namespace noid::channel::testing
