// Both ends of the protocol, joined by a simulated transport that is cut at any byte: whatever breaks,
// no byte of any stream is lost or doubled, and commands begin exactly once.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>

#include "proto/guest_peer.hpp"
#include "proto/host_peer.hpp"

namespace noid::proto {
namespace {

// A stream's nth byte: a loss or a repetition shows.
char byte_at(std::uint64_t n) {
    return static_cast<char>((n * 2654435761U) >> 13);
}
std::string pattern(std::uint64_t from, std::size_t count) {
    std::string bytes(count, '\0');
    for (std::size_t i = 0; i < count; ++i) bytes[i] = byte_at(from + i);
    return bytes;
}

struct Plan {
    std::uint64_t out = 0;
    std::uint64_t err = 0;
    std::uint64_t input = 0;
};

// Emits `out` and `err` bytes, takes all input, then ends.
class ScriptedSession final : public GuestSession {
  public:
    ScriptedSession(SessionId id, GuestPeer& peer, const Plan& plan)
        : GuestSession{id}, peer_{peer}, plan_{plan} {}

    [[nodiscard]] int starts() const { return starts_; }
    [[nodiscard]] const std::string& input() const { return input_; }
    bool cancelled = false;

  private:
    void on_spec(SessionSpec spec) override {
        EXPECT_EQ(std::get<Exec>(spec.operation).argv.at(0), "script");
        ++starts_;
        opened({.pid = 7, .file = {}});
        work();
    }
    void on_input() override { work(); }
    void on_output_room(OutputStream) override { work(); }
    void on_signal(int) override {}
    void on_resize(TerminalSize) override {}
    void on_cancel() override { cancelled = true; }
    void on_consumer() override {}
    void on_output() override { peer_.wants_to_send(*this); }

    void work() {
        if (starts_ == 0) return;
        while (!waiting_input().empty()) {
            input_.append(waiting_input());
            input_taken(waiting_input().size());
        }
        const auto produce = [this](OutputStream stream, std::uint64_t done, std::uint64_t all) {
            return done == all ||
                   write_output(stream, pattern(done, std::min<std::uint64_t>(all - done, 5000))) == 0;
        };
        while (!produce(OutputStream::out, produced().out, plan_.out)) {
        }
        while (!produce(OutputStream::err, produced().err, plan_.err)) {
        }
        if (produced().out == plan_.out && produced().err == plan_.err && input_finished())
            end({.status = 42});
    }

    GuestPeer& peer_;
    Plan plan_;
    std::string input_;
    int starts_ = 0;
};

class Guest final : public GuestPeer::Handler {
  public:
    explicit Guest(Plan plan) : plan_{plan} {}

    AgentInfo info() override {
        AgentInfo info;
        info.protocol = protocol_version;
        return info;
    }
    Result<GuestSession*> open(SessionId id) override {
        auto& session = sessions[id];
        if (!session) session = std::make_unique<ScriptedSession>(id, peer, plan_);
        return session.get();
    }
    GuestSession* find(SessionId id) override {
        const auto found = sessions.find(id);
        return found == sessions.end() ? nullptr : found->second.get();
    }
    void handle(std::uint64_t request, Request) override { peer.reply(request, Done{}); }
    void host_lost() override {
        for (auto& [id, session] : sessions) {
            if (session->consumer() == GuestSession::Consumer::attached)
                session->become(GuestSession::Consumer::holding);
        }
    }
    // What the agent does after each turn of its loop.
    void tidy() {
        for (auto it = sessions.begin(); it != sessions.end();) {
            if (!it->second->collected() && !it->second->cancelled) {
                ++it;
                continue;
            }
            finished.emplace(it->first, it->second->input());
            peer.gone(it->first, {});
            peer.forget(*it->second);
            it = sessions.erase(it);
        }
    }

    GuestPeer peer{*this};
    std::map<SessionId, std::unique_ptr<ScriptedSession>> sessions;
    std::map<SessionId, std::string> finished;

  private:
    Plan plan_;
};

// Reads everything and checks each byte; writes the plan's input.
class Consumer final : public HostSession {
  public:
    Consumer(SessionId id, HostPeer& peer, Plan plan) : HostSession{id, spec()}, peer_{peer}, plan_{plan} {}

    static std::string spec() {
        std::string record;
        append_record(record, Control{SessionSpec{.operation = Exec{.argv = {"script"}}, .label = {}}});
        return record;
    }
    void work() {
        const std::uint64_t written = input_written();
        if (written < plan_.input)
            write(pattern(written, std::min<std::uint64_t>(plan_.input - written, 7001)));
        else
            close_input();
        while (auto event = next_event()) take(*event);
    }
    [[nodiscard]] const std::optional<SessionEnd>& ended() const { return ended_; }
    [[nodiscard]] OutputOffsets got() const { return got_; }

  private:
    void take(const Event& event) {
        if (const auto* bytes = std::get_if<OutputBytes>(&event)) {
            std::uint64_t& have = bytes->stream == OutputStream::out ? got_.out : got_.err;
            ASSERT_EQ(bytes->offset, have);
            ASSERT_EQ(bytes->bytes, pattern(have, bytes->bytes.size()));
            have += bytes->bytes.size();
            acknowledge(bytes->stream, have);
        } else if (std::holds_alternative<Opened>(event)) {
            ASSERT_FALSE(std::exchange(opened_, true));
        } else if (const auto* closed = std::get_if<OutputClosed>(&event)) {
            const bool out = closed->stream == OutputStream::out;
            ASSERT_EQ(out ? got_.out : got_.err, out ? plan_.out : plan_.err);
        } else if (const auto* end = std::get_if<SessionEnd>(&event)) {
            ASSERT_FALSE(ended_);
            ended_ = *end;
            leave(Leave::collect);
        } else {
            FAIL() << "bytes were dropped";
        }
    }
    void on_change() override {}
    void on_output() override { peer_.wants_to_send(id()); }

    HostPeer& peer_;
    Plan plan_;
    OutputOffsets got_;
    bool opened_ = false;
    std::optional<SessionEnd> ended_;
};

enum class Transport { sockets, virtio };

// Carries bytes in pieces; may be cut after any number of them.
class Simulation final : public HostPeer::Handler {
  public:
    Simulation(Transport transport, Plan plan, std::uint64_t seed)
        : transport_{transport}, plan_{plan}, guest_{plan}, random_{seed} {}

    std::shared_ptr<Consumer> open() {
        auto session = std::make_shared<Consumer>(SessionId{random_()}, host_, plan_);
        host_.add(session);
        consumers_.push_back(session);
        return session;
    }

    // A new connection. With a virtio port the guest does not notice that the old one ended, and up
    // to `stale` bytes that were on their way are delivered first, in either direction.
    void connect(std::size_t stale) {
        if (transport_ == Transport::sockets) {
            up_.clear();
            down_.clear();
            reader_.restart();
            guest_.peer.disconnected();
        } else {
            up_.resize(std::min(up_.size(), stale));
            down_.resize(std::min(down_.size(), stale));
        }
        host_.begin(random_(), static_cast<std::uint32_t>(random_()), true);
    }

    // Moves at most `count` bytes each way, in pieces. False when nothing moved.
    bool step(std::size_t count) {
        for (auto& consumer : consumers_) consumer->work();
        if (down_.size() < 300'000) host_.gather(down_, 100'000);
        if (up_.size() < 300'000) guest_.peer.gather(up_, 100'000);
        const std::size_t down = std::min(count, down_.size());
        const std::size_t up = std::min(count, up_.size());
        give_guest(down);
        give_host(up);
        return down + up > 0;
    }
    // Runs until nothing moves any more; gives the bytes that moved (the greater direction).
    std::size_t run(std::size_t limit, std::size_t piece) {
        std::size_t moved = 0;
        for (int silence = 0; moved < limit && silence < 3;) {
            if (step(std::min(piece, limit - moved))) {
                moved += std::min(piece, limit - moved);
                silence = 0;
                continue;
            }
            // A deadline passes.
            if (!host_.established()) host_.repeat_hello();
            ++silence;
        }
        return moved;
    }

    HostPeer& host() { return host_; }
    Guest& guest() { return guest_; }
    std::mt19937_64& random() { return random_; }

  private:
    void handshaken(AgentInfo) override {}
    void replied(std::uint64_t, Reply) override {}
    void resync() override { host_.begin(random_(), static_cast<std::uint32_t>(random_()), false); }

    void give_guest(std::size_t count) {
        const auto space = reader_.prepare();
        count = std::min(count, space.size());
        down_.copy(space.data(), count);
        down_.erase(0, count);
        reader_.commit(count);
        while (true) {
            const auto frame = reader_.next();
            if (!frame) {
                guest_.peer.out_of_step();
                continue;
            }
            if (!*frame) break;
            const auto handled = guest_.peer.receive(**frame);
            ASSERT_TRUE(handled) << handled.error().what;
        }
        guest_.tidy();
    }
    void give_host(std::size_t count) {
        const auto space = host_.space();
        count = std::min(count, space.size());
        up_.copy(space.data(), count);
        up_.erase(0, count);
        const auto handled = host_.received(count);
        ASSERT_TRUE(handled) << handled.error().what;
    }

    Transport transport_;
    Plan plan_;
    HostPeer host_{*this};
    Guest guest_;
    FrameReader reader_{FrameReader::Side::agent};
    std::mt19937_64 random_;
    std::vector<std::shared_ptr<Consumer>> consumers_;
    std::string down_;  // host → guest
    std::string up_;    // guest → host
};

void expect_whole(Simulation& simulation, const Consumer& consumer, const Plan& plan) {
    ASSERT_TRUE(consumer.ended()) << (consumer.failure() ? consumer.failure()->what : "no end");
    EXPECT_EQ(consumer.ended()->status, 42);
    EXPECT_EQ(consumer.got().out, plan.out);
    EXPECT_EQ(consumer.got().err, plan.err);
    EXPECT_TRUE(consumer.left());
    ASSERT_TRUE(simulation.guest().finished.contains(consumer.id()));
    EXPECT_EQ(simulation.guest().finished.at(consumer.id()), pattern(0, plan.input));
}

TEST(LossyLink, WithoutLossOneTurnIsEnough) {
    const Plan plan{.out = 100, .err = 10, .input = 0};
    Simulation simulation{Transport::sockets, plan, 1};
    simulation.connect(0);
    simulation.run(1'000'000, 100'000);
    const auto consumer = simulation.open();
    EXPECT_TRUE(simulation.step(100'000));  // there
    EXPECT_TRUE(simulation.step(100'000));  // and back
    consumer->work();
    EXPECT_TRUE(consumer->ended());
}

class CutEverywhere : public testing::TestWithParam<Transport> {};
INSTANTIATE_TEST_SUITE_P(LossyLink, CutEverywhere, testing::Values(Transport::sockets, Transport::virtio),
                         [](const auto& param) {
                             return param.param == Transport::sockets ? "Sockets" : "Virtio";
                         });

TEST_P(CutEverywhere, AtEveryByteOfAShortSession) {
    const Plan plan{.out = 300, .err = 40, .input = 200};
    Simulation whole{GetParam(), plan, 5};
    whole.connect(0);
    whole.open();
    const std::size_t length = whole.run(1'000'000, 1);
    ASSERT_GT(length, 700U);
    for (std::size_t cut = 0; cut <= length; ++cut) {
        SCOPED_TRACE(cut);
        Simulation simulation{GetParam(), plan, cut};
        const auto consumer = simulation.open();
        simulation.connect(0);
        simulation.run(cut, 1);
        simulation.connect(cut % 50);
        simulation.run(1'000'000, 1000);
        expect_whole(simulation, *consumer, plan);
        if (HasFatalFailure()) return;
    }
}

TEST_P(CutEverywhere, AtRandomManyTimesWithManySessions) {
    const Plan plan{.out = 3'000'000, .err = 70'000, .input = 1'500'000};
    for (std::uint64_t seed = 1; seed <= 4; ++seed) {
        SCOPED_TRACE(seed);
        Simulation simulation{GetParam(), plan, seed};
        std::vector<std::shared_ptr<Consumer>> consumers;
        for (int i = 0; i < 3; ++i) consumers.push_back(simulation.open());
        auto& random = simulation.random();
        for (int cuts = 0; cuts < 60; ++cuts) {
            simulation.connect(random() % 200'000);
            simulation.run(random() % 400'000, 1 + random() % 100'000);
            if (HasFatalFailure()) return;
        }
        simulation.connect(0);
        simulation.run(100'000'000, 100'000);
        for (const auto& consumer : consumers) expect_whole(simulation, *consumer, plan);
    }
}

}  // namespace
}  // namespace noid::proto
