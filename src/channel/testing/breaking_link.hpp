#pragma once

#include <boost/asio/local/stream_protocol.hpp>
#include <cstddef>
#include <memory>
#include <random>
#include <string>

#include "base/async.hpp"

namespace noid::channel::testing {

// The way to an agent's socket, which breaks on purpose: each connection carries a random number of
// bytes, `mean` on average, then dies with whatever is in it. Lives on `executor`, which has one thread.
class BreakingLink {
  public:
    using Socket = asio::local::stream_protocol::socket;

    BreakingLink(asio::any_io_executor executor, std::string agent_path, std::size_t mean)
        : executor_{std::move(executor)},
          path_{std::move(agent_path)},
          life_{1.0 / static_cast<double>(mean)} {}

    // A connection for the channel.
    Awaitable<Result<Socket>> connect();
    // From now on connections last.
    void mend() noexcept { mended_ = true; }
    [[nodiscard]] int broken() const noexcept { return broken_; }

  private:
    struct Relay {
        Socket host;
        Socket agent;
        std::size_t left;
    };
    Awaitable<void> carry(std::shared_ptr<Relay> relay, Socket& from, Socket& to);

    asio::any_io_executor executor_;
    std::string path_;
    std::exponential_distribution<> life_;
    std::mt19937 random_{1};
    bool mended_ = false;
    int broken_ = 0;
};

}  // namespace noid::channel::testing
