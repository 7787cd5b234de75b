// Sessions outlive their transport, their consumer and the server; no byte is lost or doubled.
#include <csignal>

#include "channel/testing/breaking_link.hpp"
#include "channel/testing/channel_fixture.hpp"

namespace noid::channel {
namespace {

using namespace testing;
using namespace std::chrono_literals;
using proto::OutputStream;

constexpr std::uint64_t MiB = 1 << 20;

class ResumeTest : public ChannelTest {
  protected:
    // Connections that die after about so many bytes.
    void break_after(std::size_t mean) {
        link_ = std::make_unique<BreakingLink>(loop_.get_executor(), agent_.socket_path(), mean);
        connect = [this] { return link_->connect(); };
    }
    std::unique_ptr<BreakingLink> link_;
};

// The nth byte of what is sent, so that a loss or a repetition shows.
std::string pattern(std::uint64_t from, std::size_t count) {
    std::string bytes(count, '\0');
    for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<char>(((from + i) * 2654435761U) >> 13);
    return bytes;
}

Awaitable<void> write_pattern(std::shared_ptr<Session> session, std::uint64_t total) {
    constexpr std::size_t piece = 100'000;
    for (std::uint64_t done = 0; done < total; done += piece)
        must(co_await session->write(pattern(done, std::min<std::uint64_t>(piece, total - done))));
    session->close_input();
}

// Checks each byte; gives how many there were.
Awaitable<std::uint64_t> read_pattern(std::shared_ptr<Session> session) {
    std::uint64_t place = 0;
    while (true) {
        auto event = must(co_await session->next());
        if (std::holds_alternative<Session::Dropped>(event)) throw std::runtime_error{"output was dropped"};
        if (std::holds_alternative<Session::Ended>(event)) co_return place;
        const auto* piece = std::get_if<Session::Output>(&event);
        if (!piece) continue;
        if (piece->offset != place) throw std::runtime_error{"output that does not continue"};
        if (piece->bytes != pattern(place, piece->bytes.size())) throw std::runtime_error{"other bytes"};
        place += piece->bytes.size();
        session->acknowledge(OutputStream::out, place);
    }
}

TEST_F(ResumeTest, BytesSurviveEveryBreakInBothDirections) {
    break_after(2 * MiB);
    run([&]() -> Awaitable<void> {
        constexpr std::uint64_t total = 100 * MiB;
        auto session = must(co_await channel_->open(command("cat")));
        beside(write_pattern(session, total));
        EXPECT_EQ(co_await read_pattern(session), total);
        EXPECT_GT(link_->broken(), 20);
    });
}

TEST_F(ResumeTest, ConnectionsTooShortForAFrameStillGoForward) {
    break_after(30'000);
    run([&]() -> Awaitable<void> {
        constexpr std::uint64_t total = MiB;
        auto session = must(co_await channel_->open(command("cat")));
        beside(write_pattern(session, total));
        EXPECT_EQ(co_await read_pattern(session), total);
        EXPECT_GT(link_->broken(), 20);
    });
}

TEST_F(ResumeTest, CommandsBeginOnceWhateverBreaks) {
    break_after(1000);
    run([&]() -> Awaitable<void> {
        const std::string runs = agent_.is_in_guest() ? "/run/runs" : agent_.directory() / "runs";
        for (int i = 0; i < 30; ++i) {
            const auto done = co_await finish(shell("echo run >> " + runs + "; cat"), "x");
            EXPECT_EQ(done.out, "x");
        }
        link_->mend();
        EXPECT_EQ((co_await finish(shell("wc -l < " + runs))).out, "30\n");
        EXPECT_GT(link_->broken(), 10);
    });
}

TEST_F(ResumeTest, ReconnectsInMidStream) {
    run([&]() -> Awaitable<void> {
        auto session = must(co_await channel_->open(command("cat")));
        beside(write_pattern(session, 20 * MiB));
        const auto reconnecting = [](std::shared_ptr<AgentChannel> channel) -> Awaitable<void> {
            for (int i = 0; i < 20; ++i) {
                channel->reconnect();
                must(co_await channel->ready(10s));
                must(co_await channel->ping());
            }
        };
        beside(reconnecting(channel_));
        EXPECT_EQ(co_await read_pattern(session), 20 * MiB);
    });
}

TEST_F(ResumeTest, HeldTrafficStandsStillAndGoesOn) {
    run([&]() -> Awaitable<void> {
        auto session = must(co_await channel_->open(command("cat")));
        must(co_await session->write("before"));
        EXPECT_EQ(co_await read_some(*session, 6), "before");
        must(co_await channel_->hold_traffic());
        must(co_await session->write(" after"));
        session->close_input();
        const auto early = co_await within(50ms, session->next());
        EXPECT_FALSE(early);
        channel_->reconnect();
        channel_->resume_traffic();
        EXPECT_EQ((co_await read_all(session, {.out = 6, .err = 0})).out, " after");
    });
}

TEST_F(ResumeTest, DetachedSessionKeepsItsNewestOutputInBoundedMemory) {
    run([&]() -> Awaitable<void> {
        auto session =
            must(co_await channel_->open(shell("read go; seq 1 5000000; echo done >&2; read never")));
        const auto id = session->id();
        must(co_await session->write("go\n"));
        session->detach();
        session.reset();
        const std::size_t before = agent_.is_in_guest() ? 0 : agent_.memory();
        // Until it has said that it is done.
        std::vector<proto::SessionInfo> list;
        do {
            list = must(co_await channel_->sessions());
            must(list.size() == 1 ? Result<void>{} : fail(Errc::internal, "the session is not listed"));
        } while (list.front().produced.err == 0);
        if (!agent_.is_in_guest()) {
            EXPECT_LT(agent_.memory(), before + 8 * MiB);
        }
        const auto& info = list.front();
        EXPECT_EQ(info.id, id);
        EXPECT_FALSE(info.attached);
        EXPECT_EQ(info.kind, "exec");
        EXPECT_EQ(info.produced.out, 38'888'896U);
        EXPECT_EQ(info.dropped.out, 38'888'896U - proto::detached_keep);

        auto again = must(co_await channel_->attach(id, {}));
        must(co_await again->write("end\n"));
        const auto rest = co_await read_all(again);
        EXPECT_EQ(rest.dropped.out, 38'888'896U - proto::detached_keep);
        EXPECT_EQ(rest.out.size(), proto::detached_keep);
        EXPECT_TRUE(rest.out.ends_with("\n4999999\n5000000\n"));
        EXPECT_EQ(rest.err, "done\n");
    });
}

TEST_F(ResumeTest, EndedSessionWaitsForItsReader) {
    run([&]() -> Awaitable<void> {
        auto session = must(co_await channel_->open(shell("echo result; exit 9")));
        const auto id = session->id();
        session->detach();
        session.reset();
        std::vector<proto::SessionInfo> list;
        do list = must(co_await channel_->sessions());
        while (list.size() == 1 && !list.front().ended);
        EXPECT_EQ(list.size(), 1U);
        const auto done = co_await read_all(must(co_await channel_->attach(id, {})));
        EXPECT_EQ(done.out, "result\n");
        EXPECT_EQ(done.ending(), "exited 9");
    });
}

TEST_F(ResumeTest, AnotherServerTakesTheSessionOver) {
    run([&]() -> Awaitable<void> {
        auto session = must(co_await channel_->open(command("cat")));
        const auto id = session->id();
        must(co_await session->write("one two"));
        EXPECT_EQ(co_await read_some(*session, 7), "one two");
        // As after a server that was killed: nobody said goodbye.
        channel_->stop();

        const auto successor = another_channel();
        successor->start();
        must(co_await successor->ready(10s));
        // The client had four bytes only, and asks for the rest.
        auto taken = must(co_await successor->attach(id, {.out = 7, .err = 0}));
        must(co_await taken->write(" three"));
        taken->close_input();
        const auto rest = co_await read_all(taken, {.out = 7, .err = 0});
        EXPECT_EQ(rest.out, " three");
        EXPECT_EQ(rest.ending(), "exited 0");
        successor->stop();
    });
}

TEST_F(ResumeTest, AnotherConsumerStealsTheSession) {
    run([&]() -> Awaitable<void> {
        auto session = must(co_await channel_->open(command("cat")));
        must(co_await session->write("abc"));
        // Not acknowledged, so the thief gets it again.
        auto event = must(co_await session->next());
        while (!std::holds_alternative<Session::Output>(event)) event = must(co_await session->next());
        auto thief = must(co_await channel_->attach(session->id(), {}));
        const auto robbed = co_await session->next();
        EXPECT_FALSE(robbed);
        if (!robbed) {
            EXPECT_EQ(robbed.error().code, Errc::cancelled);
        }
        thief->close_input();
        EXPECT_EQ((co_await read_all(thief)).out, "abc");
    });
}

TEST_F(ResumeTest, NobodyThereToAttachTo) {
    run([&]() -> Awaitable<void> {
        const auto none = co_await channel_->attach(proto::SessionId{4711}, {});
        EXPECT_FALSE(none);
        if (!none) {
            EXPECT_EQ(none.error().code, Errc::not_found);
        }
    });
}

TEST_F(ResumeTest, AbandonedSessionIsKilledAfterItsHold) {
    run([&]() -> Awaitable<void> {
        auto spec = shell("echo ready; sleep 100");
        spec.hold = 100ms;
        auto session = must(co_await channel_->open(std::move(spec)));
        co_await read_some(*session, 6);
        session.reset();
        while (!must(co_await channel_->sessions()).empty()) must(co_await channel_->ping());
    });
}

TEST_F(ResumeTest, AbandonedSessionRunsOnWhenItsPolicySaysSo) {
    run([&]() -> Awaitable<void> {
        auto spec = shell("echo ready; cat > /dev/null; echo read; exit 7");
        spec.on_disconnect = proto::Disconnect::detach;
        spec.hold = 50ms;
        auto session = must(co_await channel_->open(std::move(spec)));
        const auto id = session->id();
        co_await read_some(*session, 6);
        session->close_input();
        session.reset();
        std::vector<proto::SessionInfo> list;
        do list = must(co_await channel_->sessions());
        while (list.size() == 1 && !list.front().ended);
        const auto done = co_await read_all(must(co_await channel_->attach(id, {.out = 6, .err = 0})),
                                            {.out = 6, .err = 0});
        EXPECT_EQ(done.out, "read\n");
        EXPECT_EQ(done.ending(), "exited 7");
    });
}

TEST_F(ResumeTest, AnAgentThatDiedLosesItsSessions) {
    if (agent_.is_in_guest()) GTEST_SKIP() << "looks at the agent's machine from outside";
    run([&]() -> Awaitable<void> {
        auto session = must(co_await channel_->open(shell("echo ready; sleep 100")));
        co_await read_some(*session, 6);
        agent_.restart();
        const auto lost = co_await session->next();
        EXPECT_FALSE(lost);
        if (!lost) {
            EXPECT_EQ(lost.error().code, Errc::not_found);
        }
        EXPECT_EQ((co_await finish(command("true"))).ending(), "exited 0");
    });
}

TEST_F(ResumeTest, OneReaderThatStandsStillStallsNobody) {
    run([&]() -> Awaitable<void> {
        auto stuck = must(co_await channel_->open(command("yes")));
        std::vector<std::shared_ptr<Session>> others;
        for (int i = 0; i < 50; ++i)
            others.push_back(must(co_await channel_->open(shell("head -c 300000 /dev/zero"))));
        for (const auto& other : others) EXPECT_EQ((co_await read_all(other)).out.size(), 300'000U);
        // Its own bytes wait, within its window.
        std::uint64_t waiting = 0;
        while (waiting < proto::stream_window) {
            const auto event = must(co_await stuck->next());
            if (const auto* piece = std::get_if<Session::Output>(&event)) waiting += piece->bytes.size();
        }
        EXPECT_EQ(waiting, proto::stream_window);
        stuck->cancel();
    });
}

TEST_F(ResumeTest, StoppedChannelTellsItsSessions) {
    run([&]() -> Awaitable<void> {
        auto session = must(co_await channel_->open(command("cat")));
        const auto stopping = [](std::shared_ptr<AgentChannel> channel) -> Awaitable<void> {
            must(co_await channel->ping());
            channel->stop();
        };
        beside(stopping(channel_));
        while (true) {
            const auto event = co_await session->next();
            if (event) continue;
            EXPECT_EQ(event.error().code, Errc::unavailable);
            break;
        }
        EXPECT_FALSE(co_await channel_->ping());
        EXPECT_FALSE(co_await channel_->open(command("true")));
    });
}

}  // namespace
}  // namespace noid::channel
