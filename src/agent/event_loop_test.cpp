#include "agent/event_loop.hpp"

#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <optional>

namespace noid::agent {
namespace {

using namespace std::chrono_literals;

std::array<Fd, 2> socket_pair() {
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
    return {Fd{ends[0]}, Fd{ends[1]}};
}

TEST(EventLoop, TellsOnceOfWhatIsNotRead) {
    EventLoop loop;
    const auto [near, far] = socket_pair();
    int readable = 0;
    EventLoop::Timer stop{loop, [&] { loop.stop(); }};
    EventLoop::Watch watch{loop, near.get(), [&, &to = far](std::uint32_t events) {
                               if ((events & EPOLLIN) == 0) return;
                               // The second arrival comes once the first was told of; then time for a third
                               // call, which must not come.
                               if (++readable == 1) {
                                   ASSERT_EQ(::write(to.get(), "y", 1), 1);
                               }
                               stop.set(readable == 1 ? 5s : 20ms);
                           }};
    ASSERT_EQ(::write(far.get(), "x", 1), 1);
    stop.set(5s);
    loop.run();
    EXPECT_EQ(readable, 2) << "once for each arrival, although nothing was read";
}

TEST(EventLoop, CallbacksMayRemoveThemselves) {
    EventLoop loop;
    const auto [near, far] = socket_pair();
    std::optional<EventLoop::Watch> watch;
    int calls = 0;
    watch.emplace(loop, near.get(), [&, kept = std::string(100, 'x')](std::uint32_t) {
        watch.reset();
        calls += kept.size() == 100;
        loop.stop();
    });
    loop.run();
    EXPECT_EQ(calls, 1);
}

TEST(EventLoop, TimersRunInTheirOrderAndCanBeMovedAndCancelled) {
    EventLoop loop;
    std::string order;
    EventLoop::Timer a{loop, [&] { order += 'a'; }};
    EventLoop::Timer b{loop, [&] { order += 'b'; }};
    EventLoop::Timer cancelled{loop, [&] { order += 'c'; }};
    EventLoop::Timer stop{loop, [&] { loop.stop(); }};
    a.set(1ms);
    b.set(4ms);
    a.set(8ms);
    cancelled.set(2ms);
    cancelled.cancel();
    stop.set(12ms);
    loop.run();
    EXPECT_EQ(order, "ba");
}

TEST(EventLoop, ATimerThatSetsItselfLetsOthersRun) {
    EventLoop loop;
    int turns = 0;
    std::optional<EventLoop::Timer> busy;
    busy.emplace(loop, [&] {
        ++turns;
        busy->set(0ms);
    });
    EventLoop::Timer stop{loop, [&] { loop.stop(); }};
    busy->set(0ms);
    stop.set(5ms);
    loop.run();
    EXPECT_GT(turns, 1);
}

TEST(EventLoop, BlockingWorkComesBackToTheLoop) {
    EventLoop loop;
    const auto here = std::this_thread::get_id();
    std::thread::id worked;
    std::thread::id done;
    loop.run_blocking([&] { worked = std::this_thread::get_id(); },
                      [&] {
                          done = std::this_thread::get_id();
                          loop.stop();
                      });
    loop.run();
    EXPECT_NE(worked, here);
    EXPECT_EQ(done, here);
}

}  // namespace
}  // namespace noid::agent
