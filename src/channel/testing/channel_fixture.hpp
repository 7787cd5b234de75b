#pragma once

#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "channel/agent_channel.hpp"
#include "channel/testing/agent_process.hpp"

namespace noid::channel::testing {

// A result that the test is about to use: throws what went wrong instead.
template <class T>
T must(Result<T> result) {
    if (!result) throw std::runtime_error{result.error().full()};
    if constexpr (!std::is_void_v<T>) return std::move(*result);
}

// All that a session gave.
struct Outcome {
    std::string out;
    std::string err;
    proto::OutputOffsets dropped;
    proto::Opened opened;
    proto::SessionEnd end;

    // "exited 0", "signalled 9", "failed: REASON"
    [[nodiscard]] std::string ending() const;
};

// (Not with a list of words: g++ 12 has no arrays in coroutines' frames.)
template <class... Words>
[[nodiscard]] proto::SessionSpec command(Words... words) {
    proto::Exec exec;
    (exec.argv.emplace_back(std::move(words)), ...);
    return {.operation = std::move(exec), .label = {}};
}
[[nodiscard]] proto::SessionSpec shell(std::string script);

// Reads a session to its end and acknowledges as it goes. Checks that offsets fit together.
Awaitable<Outcome> read_all(std::shared_ptr<Session> session, proto::OutputOffsets have = {});
// The bytes that come next on `out`, until there are `count` or the stream ends.
Awaitable<std::string> read_some(Session& session, std::size_t count);
// Writes all of it and closes the input.
Awaitable<void> write_all(std::shared_ptr<Session> session, std::string bytes);

// A real agent and a channel to it.
class ChannelTest : public ::testing::Test {
  protected:
    using Body = std::function<Awaitable<void>()>;

    // Runs the test's coroutine with a channel that is ready; fails when it takes longer.
    void run(const Body& body, std::chrono::seconds limit = std::chrono::seconds{60});
    // What the channel connects by; run() makes the channel from it.
    AgentChannel::Connect connect = [this] { return connect_directly(); };
    // Runs `work` beside the test's coroutine; its exceptions fail the test.
    void beside(Awaitable<void> work);
    // A session that is opened, fed with `input` and read to its end.
    Awaitable<Outcome> finish(proto::SessionSpec spec, std::string input = {});
    // A channel more to the same agent.
    [[nodiscard]] std::shared_ptr<AgentChannel> another_channel() {
        return AgentChannel::create(loop_.get_executor(), connect);
    }

    asio::io_context loop_{1};
    AgentProcess agent_;
    std::shared_ptr<AgentChannel> channel_;

  private:
    Awaitable<Result<asio::local::stream_protocol::socket>> connect_directly();
};

}  // namespace noid::channel::testing
