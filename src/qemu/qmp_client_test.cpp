#include "qemu/qmp_client.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/connect_pair.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>
#include <boost/json/parse.hpp>
#include <functional>
#include <utility>
#include <vector>

namespace noid::qemu {
namespace {

using namespace std::chrono_literals;
using Socket = asio::local::stream_protocol::socket;

constexpr auto greeting = "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n";

// QEMU's end of the connection, played by the test.
class Peer {
  public:
    explicit Peer(Socket socket) : socket_{std::move(socket)} {}

    Awaitable<void> say(std::string text) {
        co_await asio::async_write(socket_, asio::buffer(text), asio::use_awaitable);
    }
    // The next command's name; its id is kept.
    Awaitable<std::string> hear() {
        const auto length = co_await asio::async_read_until(socket_, asio::dynamic_buffer(buffer_), '\n',
                                                            asio::use_awaitable);
        const auto message = boost::json::parse(buffer_.substr(0, length)).as_object();
        buffer_.erase(0, length);
        id_ = message.at("id").to_number<std::uint64_t>();
        co_return std::string{message.at("execute").as_string()};
    }
    Awaitable<void> answer(std::string value) {
        std::string text = "{\"return\": " + value + ", \"id\": " + std::to_string(id_) + "}\r\n";
        co_await say(std::move(text));
    }
    Awaitable<void> greet() {
        co_await say(greeting);
        EXPECT_EQ(co_await hear(), "qmp_capabilities");
        co_await answer("{}");
    }
    void close() { socket_.close(); }
    [[nodiscard]] std::uint64_t id() const { return id_; }

  private:
    Socket socket_;
    std::string buffer_;
    std::uint64_t id_ = 0;
};

class QmpClientTest : public testing::Test {
  protected:
    // Plays both sides until both are done.
    void play(std::function<Awaitable<void>(Peer&)> qemu, std::function<Awaitable<void>(Socket)> ours) {
        Socket near{loop_};
        Socket far{loop_};
        asio::local::connect_pair(near, far);
        Peer peer{std::move(far)};
        std::exception_ptr thrown;
        const auto note = [&](std::exception_ptr e) {
            if (e) thrown = e;
        };
        asio::co_spawn(loop_, qemu(peer), note);
        asio::co_spawn(loop_, ours(std::move(near)), note);
        loop_.run_for(30s);
        if (thrown) std::rethrow_exception(thrown);
    }
    static Awaitable<std::unique_ptr<QmpClient>> connected(Socket socket, QmpClient::OnEvent on_event = {}) {
        auto client = co_await QmpClient::connect(std::move(socket), std::move(on_event), 5s);
        if (!client) throw std::runtime_error{client.error().what};
        co_return std::move(*client);
    }

    asio::io_context loop_;
};

TEST_F(QmpClientTest, CarriesCommandsAndReplies) {
    play(
        [](Peer& peer) -> Awaitable<void> {
            co_await peer.greet();
            EXPECT_EQ(co_await peer.hear(), "query-status");
            co_await peer.answer("{\"status\": \"running\"}");
        },
        [](Socket socket) -> Awaitable<void> {
            const auto client = co_await connected(std::move(socket));
            const auto reply = co_await client->execute("query-status", {}, 5s);
            EXPECT_TRUE(reply);
            EXPECT_EQ(reply->at("status").as_string(), "running");
        });
}

TEST_F(QmpClientTest, GivesQemusOwnWordsForARefusal) {
    play(
        [](Peer& peer) -> Awaitable<void> {
            co_await peer.greet();
            co_await peer.hear();
            std::string refusal =
                "{\"error\": {\"class\": \"GenericError\", \"desc\": \"not now\"}, \"id\": " +
                std::to_string(peer.id()) + "}\n";
            co_await peer.say(std::move(refusal));
        },
        [](Socket socket) -> Awaitable<void> {
            const auto client = co_await connected(std::move(socket));
            const auto reply = co_await client->execute("cont", {}, 5s);
            EXPECT_FALSE(reply);
            EXPECT_EQ(reply.error().what, "cont: QEMU: not now");
        });
}

TEST_F(QmpClientTest, DeliversEventsBeforeTheReplyThatFollowsThem) {
    std::vector<std::string> seen;
    play(
        [](Peer& peer) -> Awaitable<void> {
            co_await peer.greet();
            co_await peer.hear();
            // In pieces, as a stream may bring them.
            co_await peer.say("{\"event\": \"ST");
            co_await peer.say("OP\"}\n{\"event\": \"X\"}\n");
            co_await peer.answer("{}");
        },
        [&](Socket socket) -> Awaitable<void> {
            QmpClient::OnEvent note = [&](const QmpEvent& event) { seen.push_back(event.name); };
            const auto client = co_await connected(std::move(socket), std::move(note));
            EXPECT_TRUE(co_await client->execute("stop", {}, 5s));
            EXPECT_THAT(seen, testing::ElementsAre("STOP", "X"));
        });
}

TEST_F(QmpClientTest, DropsAReplyThatComesTooLate) {
    play(
        [](Peer& peer) -> Awaitable<void> {
            co_await peer.greet();
            EXPECT_EQ(co_await peer.hear(), "slow");
            const auto slow = peer.id();
            EXPECT_EQ(co_await peer.hear(), "quick");
            std::string late = "{\"return\": \"late\", \"id\": " + std::to_string(slow) + "}\n";
            co_await peer.say(std::move(late));
            co_await peer.answer("\"quick\"");
        },
        [](Socket socket) -> Awaitable<void> {
            const auto client = co_await connected(std::move(socket));
            EXPECT_EQ((co_await client->execute("slow", {}, 20ms)).error().code, Errc::timed_out);
            const auto reply = co_await client->execute("quick", {}, 5s);
            EXPECT_TRUE(reply);
            EXPECT_EQ(reply->as_string(), "quick");
        });
}

TEST_F(QmpClientTest, EndsEveryWaitWhenQemuIsGone) {
    play(
        [](Peer& peer) -> Awaitable<void> {
            co_await peer.greet();
            co_await peer.hear();
            co_await peer.say("{\"event\": \"SHUTDOWN\", \"data\": {\"reason\": \"guest-shutdown\"}}\n");
            peer.close();
        },
        [](Socket socket) -> Awaitable<void> {
            std::string reason;
            QmpClient::OnEvent note = [&](const QmpEvent& event) {
                reason = event.data.at("reason").as_string();
            };
            const auto client = co_await connected(std::move(socket), std::move(note));
            EXPECT_EQ((co_await client->execute("stop", {}, 5s)).error().code, Errc::unavailable);
            EXPECT_TRUE(co_await client->closed(5s));
            EXPECT_EQ(reason, "guest-shutdown");
            EXPECT_EQ((co_await client->execute("cont", {}, 5s)).error().code, Errc::unavailable);
        });
}

TEST_F(QmpClientTest, GivesUpOnAPeerThatIsNoQemu) {
    for (const std::string& text : {std::string{"SSH-2.0-OpenSSH\n"}, std::string(max_qmp_line + 10, 'x')}) {
        loop_.restart();
        play(
            [&](Peer& peer) -> Awaitable<void> {
                try {
                    co_await peer.say(text);
                } catch (const boost::system::system_error&) {
                    // The other side has closed in the middle, as it should.
                }
            },
            [](Socket socket) -> Awaitable<void> {
                QmpClient::OnEvent nobody;
                const auto client = co_await QmpClient::connect(std::move(socket), std::move(nobody), 5s);
                EXPECT_FALSE(client);
                EXPECT_EQ(client.error().code, Errc::unavailable);
            });
    }
}

TEST_F(QmpClientTest, DoesNotWaitForeverForAGreeting) {
    play([](Peer&) -> Awaitable<void> { co_return; },
         [](Socket socket) -> Awaitable<void> {
             QmpClient::OnEvent nobody;
             const auto client = co_await QmpClient::connect(std::move(socket), std::move(nobody), 20ms);
             EXPECT_FALSE(client);
             EXPECT_EQ(client.error().code, Errc::timed_out);
         });
}

TEST_F(QmpClientTest, MayBeDestroyedWithCommandsUnderWay) {
    play([](Peer& peer) -> Awaitable<void> { co_await peer.greet(); },
         [this](Socket socket) -> Awaitable<void> {
             auto client = co_await connected(std::move(socket));
             Result<boost::json::value> reply;
             bool ended = false;
             asio::co_spawn(loop_, client->execute("stop", {}, 5s),
                            [&](std::exception_ptr, Result<boost::json::value> result) {
                                reply = std::move(result);
                                ended = true;
                            });
             co_await asio::post(loop_, asio::use_awaitable);
             client.reset();
             while (!ended) co_await asio::post(loop_, asio::use_awaitable);
             EXPECT_EQ(reply.error().code, Errc::unavailable);
         });
}

}  // namespace
}  // namespace noid::qemu
