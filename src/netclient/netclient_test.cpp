#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>
#include <deque>

#include "base/temporary_directory.hpp"
#include "netclient/client.hpp"
#include "netclient/daemon_network.hpp"

namespace noid::netclient {
namespace {

using namespace std::chrono_literals;
using asio::local::stream_protocol;

// A daemon that says what it was told to say, one answer a connection, and hangs up; after the last it
// never answers.
class ScriptedDaemon {
  public:
    ScriptedDaemon(asio::io_context& loop, const std::filesystem::path& socket)
        : acceptor_{loop, stream_protocol::endpoint{socket.string()}} {
        asio::co_spawn(loop, serve(), [](std::exception_ptr) {});
    }
    std::deque<std::string> answers;
    std::vector<std::string> asked;

    void stop() {
        acceptor_.close();
        silent_.clear();
    }

  private:
    Awaitable<void> serve() {
        while (true) {
            auto socket = co_await acceptor_.async_accept(asio::use_awaitable);
            std::string line;
            const auto used = co_await asio::async_read_until(socket, asio::dynamic_buffer(line), '\n',
                                                              asio::use_awaitable);
            asked.push_back(line.substr(0, used - 1));
            if (answers.empty()) {
                silent_.push_back(std::move(socket));
                continue;
            }
            const std::string answer = std::move(answers.front());
            answers.pop_front();
            co_await asio::async_write(socket, asio::buffer(answer), asio::use_awaitable);
        }
    }

    stream_protocol::acceptor acceptor_;
    std::vector<stream_protocol::socket> silent_;
};

class NetClient : public testing::Test {
  protected:
    template <class T>
    T run(Awaitable<T> work) {
        std::optional<T> result;
        asio::co_spawn(loop_, std::move(work), [&](std::exception_ptr thrown, T value) {
            if (thrown) std::rethrow_exception(thrown);
            result.emplace(std::move(value));
        });
        loop_.restart();
        while (!result) loop_.run_one();
        return std::move(*result);
    }
    ScriptedDaemon& start() { return daemon_.emplace(loop_, socket_); }
    void stop() {
        daemon_->stop();
        loop_.poll();
        std::filesystem::remove(socket_);
    }

    TemporaryDirectory directory_ = TemporaryDirectory::create().value();
    std::filesystem::path socket_ = directory_.path() / "netd.sock";
    asio::io_context loop_;
    std::optional<ScriptedDaemon> daemon_;
};

net::SlotDescription slot() {
    return {3,
            "/run/netns/noid3",
            "tap0",
            net::Ipv4{0xAC10000D},
            net::Ipv4{0xAC10000E},
            "AA:FC:00:00:00:02",
            "10.200.0.2/30",
            "10.200.0.1",
            {"10.200.0.1"},
            1400};
}

TEST_F(NetClient, SaysThatNobodyIsThere) {
    const Client client{socket_};
    const auto released = run(client.release("a"));
    EXPECT_EQ(released.error().code, Errc::unavailable);
    EXPECT_NE(released.error().what.find("is noid-netd running?"), std::string::npos);
    const Client nowhere{"/nonexistent/directory/netd.sock"};
    EXPECT_EQ(run(nowhere.release("a")).error().code, Errc::unavailable);
}

TEST_F(NetClient, AsksAndUnderstands) {
    start().answers = {net::release_reply(true) + "\n", net::slot_reply(slot()) + "\n"};
    const Client client{socket_};
    EXPECT_TRUE(run(client.release("a")).value());
    EXPECT_EQ(daemon_->asked.at(0), net::to_line(net::ReleaseRequest{"a"}));
    net::AcquireRequest request;
    request.vm = "b";
    EXPECT_EQ(run(client.acquire(request)).value().mtu, 1400U);
}

TEST_F(NetClient, TellsWhatWentWrong) {
    start().answers = {
        net::error_reply(Error{Errc::limit_exceeded, "all slots", {}}, net::ErrorShape::with_code) + "\n",
        "nonsense\n", "cut sho"};
    const Client client{socket_};
    EXPECT_EQ(run(client.stats()).error().code, Errc::limit_exceeded);
    EXPECT_EQ(run(client.stats()).error().code, Errc::corrupt);
    EXPECT_EQ(run(client.stats()).error().code, Errc::unavailable);
}

TEST_F(NetClient, DoesNotWaitForEver) {
    start();
    const Client client{socket_, 50ms};
    EXPECT_EQ(run(client.doctor()).error().code, Errc::timed_out);
}

TEST_F(NetClient, NetworkGivesTheSlotAsTheEngineWantsIt) {
    start().answers = {net::slot_reply(slot()) + "\n"};
    DaemonNetwork network{socket_};
    const auto given = run(network.acquire("vm", {.mode = net::Mode::egress, .rules = {}})).value().value();
    EXPECT_EQ(given.index, 3U);
    EXPECT_EQ(given.address, "172.16.0.14");
    EXPECT_EQ(given.attachment.netns, "/run/netns/noid3");
    EXPECT_EQ(given.attachment.tap, "tap0");
    EXPECT_EQ(given.guest.address, "10.200.0.2/30");
    EXPECT_EQ(given.guest.mac, given.attachment.guest_mac);
    EXPECT_EQ(given.guest.mtu, 1400U);
    EXPECT_NE(daemon_->asked.at(0).find(R"("mode":"egress")"), std::string::npos);
}

TEST_F(NetClient, NetworkIsOptional) {
    DaemonNetwork network{socket_};
    EXPECT_FALSE(run(network.acquire("vm", {})).value());
    EXPECT_NE(network.unavailable_reason().find("is noid-netd running?"), std::string::npos);
    start().answers = {
        net::error_reply(Error{Errc::limit_exceeded, "all slots", {}}, net::ErrorShape::with_code) + "\n"};
    EXPECT_EQ(run(network.acquire("vm", {})).error().code, Errc::limit_exceeded);
}

TEST_F(NetClient, NetworkGivesBackLaterWhatItCouldNotGiveBack) {
    DaemonNetwork network{socket_};
    EXPECT_TRUE(run(network.release("gone")));
    EXPECT_TRUE(run(network.release("back")));
    start().answers = {net::slot_reply(slot()) + "\n", net::release_reply(true) + "\n",
                       net::release_reply(false) + "\n"};
    // This one was started again: its slot is its own once more.
    EXPECT_TRUE(run(network.acquire("back", {})).value());
    ASSERT_EQ(daemon_->asked.size(), 2U);
    EXPECT_EQ(daemon_->asked[1], net::to_line(net::ReleaseRequest{"gone"}));
    EXPECT_TRUE(run(network.release("other")));
    EXPECT_EQ(daemon_->asked.size(), 3U);
    stop();
    EXPECT_TRUE(run(network.release("other")));
}

class Heard final : public vm::Doorbell {
  public:
    [[nodiscard]] std::vector<std::string> asleep() const override { return {"a", "b"}; }
    void knocked(std::string vm) override { knocks.push_back(std::move(vm)); }
    void lost(std::string vm) override { gone.push_back(std::move(vm)); }
    std::vector<std::string> knocks;
    std::vector<std::string> gone;
};

TEST_F(NetClient, NetworkHearsWhoSendsToSleepingVmsWheneverADaemonComes) {
    DaemonNetwork network{socket_};
    Heard bell;
    asio::cancellation_signal enough;
    bool has_ended = false;
    asio::co_spawn(
        loop_, network.watch(bell),
        asio::bind_cancellation_slot(enough.slot(), [&](std::exception_ptr) { has_ended = true; }));
    const auto run_until = [&](auto&& is_done) {
        loop_.restart();
        while (!is_done()) loop_.run_one_for(10s);
    };
    const std::string watched = net::watch_reply({"b"}) + "\n";
    loop_.poll();
    start().answers = {watched + net::knock_line("a") + "\n" + net::knock_line("c") + "\n"};
    run_until([&] { return bell.knocks.size() == 2; });
    EXPECT_EQ(bell.knocks, (std::vector<std::string>{"a", "c"}));
    EXPECT_EQ(bell.gone, std::vector<std::string>{"b"});
    const auto asked = std::get<net::WatchRequest>(
        net::parse_request(R"({"server":"x",)" + daemon_->asked.at(0).substr(1)).value());
    EXPECT_EQ(asked.asleep, (std::vector<std::string>{"a", "b"}));
    // It hung up, and there is none for a while.
    stop();
    start().answers = {watched + net::knock_line("a") + "\n"};
    run_until([&] { return bell.knocks.size() == 3; });
    enough.emit(asio::cancellation_type::terminal);
    run_until([&] { return has_ended; });
}

std::string released_reply(std::vector<std::string> vms) {
    return net::retain_reply(vms) + "\n";
}

TEST_F(NetClient, NetworkSaysWhichServerItIsBeforeItAsksForASlot) {
    DaemonNetwork network{socket_};
    const auto retain = [&](std::string server, std::vector<std::string> vms) -> Awaitable<Result<void>> {
        co_await network.retain(std::move(server), std::move(vms));
        co_return Result<void>{};
    };
    // Nobody is there: said when somebody is.
    EXPECT_TRUE(run(retain("blue", {"a", "b"})));
    start().answers = {released_reply({"leaked"}), net::slot_reply(slot()) + "\n",
                       net::slot_reply(slot()) + "\n"};
    EXPECT_TRUE(run(network.acquire("c", {})).value());
    EXPECT_TRUE(run(network.acquire("d", {})).value());
    ASSERT_EQ(daemon_->asked.size(), 3U) << "said once";
    const auto said = std::get<net::RetainRequest>(net::parse_request(daemon_->asked[0]).value());
    EXPECT_EQ(said.vms, (std::vector<std::string>{"a", "b"}));
    EXPECT_EQ(said.holder.server, "blue");
    const auto asked = std::get<net::AcquireRequest>(net::parse_request(daemon_->asked[1]).value());
    EXPECT_EQ(asked.holder, said.holder) << "of the same process";

    daemon_->answers = {released_reply({})};
    DaemonNetwork successor{socket_};
    EXPECT_TRUE(run([&]() -> Awaitable<Result<void>> {
        co_await successor.retain("blue", {});
        co_return Result<void>{};
    }()));
    const auto later = std::get<net::RetainRequest>(net::parse_request(daemon_->asked.at(3)).value());
    EXPECT_EQ(later.holder.server, "blue");
    EXPECT_NE(later.holder.run, said.holder.run) << "another process";
}

TEST_F(NetClient, NetworkCountsWhatItsOwnServerHas) {
    const auto counted = [](const char* vm, const char* server, std::uint64_t bytes,
                            std::uint32_t connections) {
        net::VmStats stats;
        stats.vm = vm;
        stats.server = server;
        stats.sent = {bytes, 1};
        stats.connections = connections;
        return stats;
    };
    start().answers = {
        released_reply({}),
        net::stats_reply(
            {counted("a", "blue", 5, 1), counted("b", "green", 70, 7), counted("c", "blue", 6, 0)}) +
            "\n",
        net::stats_reply({counted("a", "blue", 5, 1)}) + "\n",
        net::error_reply(Error{Errc::not_found, "no slot", {}}, net::ErrorShape::with_code) + "\n"};
    DaemonNetwork network{socket_};
    EXPECT_TRUE(run([&]() -> Awaitable<Result<void>> {
        co_await network.retain("blue", {});
        co_return Result<void>{};
    }()));
    const auto all = run(network.all_numbers()).value();
    EXPECT_EQ(all.size(), 2U);
    EXPECT_EQ(all.at("a").sent, (net::Traffic{5, 1}));
    EXPECT_EQ(all.at("a").connections, 1U);
    EXPECT_EQ(all.at("c").sent, (net::Traffic{6, 1}));
    EXPECT_EQ(run(network.numbers("a")).value().sent.bytes, 5U);
    EXPECT_EQ(run(network.policy("x", {})).error().code, Errc::not_found);
    stop();
    EXPECT_EQ(run(network.policy("x", {})).error().code, Errc::unavailable);
}

}  // namespace
}  // namespace noid::netclient
