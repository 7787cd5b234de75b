// A guest that does not keep to the protocol loses its connection, and the server no time over it.
#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/connect_pair.hpp>
#include <boost/asio/write.hpp>
#include <functional>

#include "channel/agent_channel.hpp"
#include "proto/codec.hpp"
#include "proto/frame.hpp"

namespace noid::channel {
namespace {

using namespace std::chrono_literals;
using Socket = asio::local::stream_protocol::socket;

// Plays the agent on the first connection; later ones stay silent.
class HostileGuestTest : public ::testing::Test {
  protected:
    // What the guest says to each hello, after its proper answer.
    using Says = std::function<std::string(const proto::FrameHeader& hello)>;

    // Gives how often the host said hello before it closed the connection.
    int hellos_until_closed(const Says& says) {
        int hellos = 0;
        bool first = true;
        std::vector<Socket> silent;
        const auto guest = [&](Socket socket) -> Awaitable<void> {
            proto::FrameReader reader{proto::FrameReader::Side::agent};
            boost::system::error_code error;
            while (!error) {
                const auto space = reader.prepare();
                const std::size_t got =
                    co_await socket.async_read_some(asio::buffer(space.data(), space.size()),
                                                    asio::redirect_error(asio::use_awaitable, error));
                reader.commit(got);
                std::string answers;
                while (const auto frame = reader.next()) {
                    if (!*frame) break;
                    if ((*frame)->header.type != proto::FrameType::hello) continue;
                    ++hellos;
                    answers += answer((*frame)->header) + says((*frame)->header);
                }
                if (!error)
                    co_await asio::async_write(socket, asio::buffer(answers),
                                               asio::redirect_error(asio::use_awaitable, error));
            }
            loop_.stop();
        };
        const auto connect = [&]() -> Awaitable<Result<Socket>> {
            Socket host{loop_};
            Socket far{loop_};
            asio::local::connect_pair(host, far);
            if (std::exchange(first, false)) {
                asio::co_spawn(loop_, guest(std::move(far)), [](std::exception_ptr thrown) {
                    if (thrown) std::rethrow_exception(thrown);
                });
            } else {
                silent.push_back(std::move(far));
            }
            co_return host;
        };
        const auto channel = AgentChannel::create(loop_.get_executor(), connect);
        channel->start();
        loop_.run_for(10s);
        EXPECT_TRUE(loop_.stopped()) << "the connection was not closed";
        channel->stop();
        loop_.restart();
        loop_.run_for(1s);
        return hellos;
    }

  private:
    static std::string answer(const proto::FrameHeader& hello) {
        proto::AgentInfo info;
        info.protocol = proto::protocol_version;
        std::string bytes;
        proto::append_frame(
            bytes, {.type = proto::FrameType::hello_ack, .epoch = hello.epoch, .id = hello.id}, encode(info));
        return bytes;
    }

    asio::io_context loop_{1};
};

TEST_F(HostileGuestTest, BytesThatAreNoFrameEndTheConnection) {
    EXPECT_EQ(hellos_until_closed([](const auto&) { return std::string(100, 'x'); }), 1);
}

TEST_F(HostileGuestTest, FramesThatOnlyAHostSendsEndTheConnection) {
    const auto says = [](const proto::FrameHeader& hello) {
        std::string bytes;
        proto::append_frame(bytes, {.type = proto::FrameType::open, .epoch = hello.epoch, .id = 1}, {});
        return bytes;
    };
    EXPECT_EQ(hellos_until_closed(says), 1);
}

TEST_F(HostileGuestTest, AskingForEverNewHellosEndsTheConnection) {
    const auto says = [](const proto::FrameHeader& hello) {
        std::string bytes;
        proto::append_frame(bytes, {.type = proto::FrameType::resync, .epoch = hello.epoch}, {});
        return bytes;
    };
    const int hellos = hellos_until_closed(says);
    EXPECT_GT(hellos, 1) << "once or twice is what a cut frame makes";
    EXPECT_LT(hellos, 20);
}

}  // namespace
}  // namespace noid::channel
