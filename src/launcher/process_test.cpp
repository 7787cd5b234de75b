#include "launcher/process.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <boost/asio/io_context.hpp>
#include <csignal>
#include <functional>

namespace noid::launcher {
namespace {

using namespace std::chrono_literals;

// Runs one coroutine to its end.
void run(std::function<Awaitable<void>(asio::any_io_executor)> body) {
    asio::io_context loop;
    std::exception_ptr thrown;
    asio::co_spawn(loop, body(loop.get_executor()), [&](std::exception_ptr e) {
        thrown = e;
        loop.stop();
    });
    loop.run();
    if (thrown) std::rethrow_exception(thrown);
}

Result<Launched> start(std::string script) {
    ProcessSpec spec;
    spec.program = "/bin/sh";
    spec.arguments = {"-c", std::move(script)};
    return launch(spec);
}

TEST(Process, TellsExitCodeFromSignal) {
    run([](asio::any_io_executor executor) -> Awaitable<void> {
        Process good{executor, std::move(*start("exit 7"))};
        EXPECT_EQ(co_await good.exited(), (ExitStatus{ExitStatus::How::exited, 7}));
        Process bad{executor, std::move(*start("kill -SEGV $$"))};
        const auto status = co_await bad.exited();
        EXPECT_EQ(status, (ExitStatus{ExitStatus::How::signalled, SIGSEGV}));
        EXPECT_EQ(describe(status), "killed by signal 11 (Segmentation fault)");
    });
}

TEST(Process, TellsEveryWaiter) {
    run([](asio::any_io_executor executor) -> Awaitable<void> {
        Process process{executor, std::move(*start("exec sleep 60"))};
        int told = 0;
        for (int i = 0; i < 3; ++i) {
            asio::co_spawn(executor, process.exited(), [&](std::exception_ptr e, ExitStatus status) {
                EXPECT_FALSE(e);
                EXPECT_EQ(status.value, SIGTERM);
                ++told;
            });
        }
        const auto status = co_await process.stop(10s);
        EXPECT_TRUE(status);
        co_await asio::post(executor, asio::use_awaitable);
        EXPECT_EQ((co_await process.exited()).value, SIGTERM);
        EXPECT_EQ(told, 3);
        EXPECT_TRUE(process.has_exited());
        EXPECT_EQ(process.signal(SIGTERM).error().code, Errc::not_found);
    });
}

TEST(Process, IsKilledWhenItDoesNotListen) {
    run([](asio::any_io_executor executor) -> Awaitable<void> {
        std::array<int, 2> ends{};
        EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
        ProcessSpec spec;
        spec.program = "/bin/sh";
        spec.arguments = {"-c", "trap '' TERM; echo >&3; while :; do sleep 60; done"};
        spec.descriptors.push_back({3, Fd{ends[1]}});
        Process deaf{executor, std::move(*launch(spec))};
        char byte = 0;
        EXPECT_EQ(::read(ends[0], &byte, 1), 1);  // now the signal is ignored
        ::close(ends[0]);
        const auto status = co_await deaf.stop(50ms);
        EXPECT_TRUE(status);
        EXPECT_EQ(*status, (ExitStatus{ExitStatus::How::signalled, SIGKILL}));
    });
}

TEST(Process, WaitCanBeGivenUpAndRepeated) {
    run([](asio::any_io_executor executor) -> Awaitable<void> {
        Process process{executor, std::move(*start("exec sleep 60"))};
        const auto wait = [&]() -> Awaitable<Result<ExitStatus>> { co_return co_await process.exited(); };
        auto status = co_await within(20ms, wait());
        EXPECT_EQ(status.error().code, Errc::timed_out);
        EXPECT_TRUE(process.signal(SIGKILL));
        status = co_await within(10s, wait());
        EXPECT_EQ(status->value, SIGKILL);
    });
}

TEST(Process, IsAdoptedByIdentityOnly) {
    run([](asio::any_io_executor executor) -> Awaitable<void> {
        // A grandchild, so that it is not ours to reap, as after a restart of the server.
        std::array<int, 2> ends{};
        EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
        ProcessSpec spec;
        spec.program = "/bin/sh";
        spec.arguments = {"-c", "sleep 60 3>&- & echo $! >&3"};
        spec.descriptors.push_back({3, Fd{ends[1]}});
        Process parent{executor, std::move(*launch(spec))};
        co_await parent.exited();
        spec.descriptors.clear();
        std::array<char, 16> text{};
        EXPECT_GT(::read(ends[0], text.data(), text.size() - 1), 0);
        ::close(ends[0]);
        const auto identity = identify(std::stoi(text.data()));
        EXPECT_TRUE(identity);

        auto reused = *identity;
        ++reused.start_time;
        EXPECT_EQ(Process::adopt(executor, reused).error().code, Errc::not_found);
        auto process = Process::adopt(executor, *identity);
        EXPECT_TRUE(process);
        const auto status = co_await process->stop(10s);
        EXPECT_TRUE(status);
        EXPECT_EQ(*status, (ExitStatus{ExitStatus::How::unknown, 0}));
        EXPECT_EQ(describe(*status), "ended");
    });
}

}  // namespace
}  // namespace noid::launcher
