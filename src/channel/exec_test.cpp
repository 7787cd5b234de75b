// Commands through the channel, run by a real agent.
#include <algorithm>
#include <csignal>
#include <set>

#include "base/file.hpp"
#include "channel/testing/channel_fixture.hpp"

namespace noid::channel {
namespace {

using namespace testing;
using namespace std::chrono_literals;
using proto::SessionEnd;

class ExecTest : public ChannelTest {};

proto::Exec& exec_of(proto::SessionSpec& spec) {
    return std::get<proto::Exec>(spec.operation);
}

proto::SessionSpec on_terminal(std::string script, proto::TerminalSize size = {}) {
    auto spec = shell(std::move(script));
    exec_of(spec).tty = size;
    return spec;
}

// Lines of `text`, without those that a terminal echoes.
bool contains(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

TEST_F(ExecTest, GivesTheExitCode) {
    run([&]() -> Awaitable<void> {
        const auto done = co_await finish(command("/bin/true"));
        EXPECT_EQ(done.ending(), "exited 0");
        EXPECT_GT(done.opened.pid, 0U);
        EXPECT_EQ((co_await finish(shell("exit 42"))).ending(), "exited 42");
    });
}

TEST_F(ExecTest, GivesTheSignalApart) {
    run([&]() -> Awaitable<void> {
        EXPECT_EQ((co_await finish(shell("kill -SEGV $$"))).ending(), "signalled 11");
        EXPECT_EQ((co_await finish(shell("exit 139"))).ending(), "exited 139");
    });
}

TEST_F(ExecTest, KeepsTheOutputsApart) {
    run([&]() -> Awaitable<void> {
        const auto done = co_await finish(shell("echo to-out; echo to-err >&2; printf 'no newline'"));
        EXPECT_EQ(done.out, "to-out\nno newline");
        EXPECT_EQ(done.err, "to-err\n");
    });
}

TEST_F(ExecTest, MergesTheOutputsInOrder) {
    run([&]() -> Awaitable<void> {
        auto spec = shell("for i in 1 2 3; do echo out$i; echo err$i >&2; done");
        exec_of(spec).merge_error_output = true;
        const auto done = co_await finish(std::move(spec));
        EXPECT_EQ(done.out, "out1\nerr1\nout2\nerr2\nout3\nerr3\n");
        EXPECT_EQ(done.err, "");
    });
}

TEST_F(ExecTest, PassesInputAndItsEnd) {
    run([&]() -> Awaitable<void> {
        const auto done = co_await finish(command("cat"), "first\nsecond");
        EXPECT_EQ(done.out, "first\nsecond");
        EXPECT_EQ(done.ending(), "exited 0");
    });
}

TEST_F(ExecTest, WithoutInputReadsNothing) {
    run([&]() -> Awaitable<void> {
        auto spec = command("cat");
        exec_of(spec).input = false;
        EXPECT_EQ((co_await read_all(must(co_await channel_->open(std::move(spec))))).ending(), "exited 0");
    });
}

TEST_F(ExecTest, SaysWhyACommandCannotRun) {
    run([&]() -> Awaitable<void> {
        auto done = co_await finish(command("no-such-command"));
        EXPECT_EQ(done.ending(), "exited 127");
        EXPECT_EQ(done.err, "no-such-command: command not found\n");
        done = co_await finish(command("/etc/passwd"));
        EXPECT_EQ(done.ending(), "exited 126");
        EXPECT_EQ(done.err, "/etc/passwd: Permission denied\n");
        auto spec = command("true");
        exec_of(spec).cwd = "/nowhere";
        EXPECT_EQ((co_await finish(std::move(spec))).ending(),
                  "failed: working directory '/nowhere': No such file or directory");
        spec = command("true");
        exec_of(spec).user = "nobody-here";
        EXPECT_EQ((co_await finish(std::move(spec))).ending(),
                  "failed: the guest's /etc/passwd has no user 'nobody-here'");
    });
}

TEST_F(ExecTest, TakesEnvironmentDirectoryAndUser) {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    run([&]() -> Awaitable<void> {
        auto spec = shell("echo $NAME; pwd; id -un; echo $HOME; cat /proc/self/oom_score_adj");
        exec_of(spec).env.emplace_back("NAME=a value");
        exec_of(spec).cwd = "/usr";
        exec_of(spec).user = "nobody";
        EXPECT_EQ((co_await finish(std::move(spec))).out, "a value\n/usr\nnobody\n/nonexistent\n0\n");
    });
}

TEST_F(ExecTest, LeaksNoDescriptorIntoTheCommand) {
    run([&]() -> Awaitable<void> {
        EXPECT_EQ((co_await finish(command("ls", "/proc/self/fd"))).out, "0\n1\n2\n3\n")
            << "3 is the directory itself";
    });
}

TEST_F(ExecTest, GivesATerminal) {
    run([&]() -> Awaitable<void> {
        const auto done = co_await finish(on_terminal(
            "test -t 0 && test -t 1 && test -t 2 && stty size && echo $TERM; echo err >&2", {100, 30}));
        EXPECT_EQ(done.out, "30 100\r\nxterm-256color\r\nerr\r\n");
        EXPECT_EQ(done.ending(), "exited 0");
    });
}

TEST_F(ExecTest, ResizesTheTerminal) {
    run([&]() -> Awaitable<void> {
        auto session = must(co_await channel_->open(
            on_terminal("trap 'stty size; exit 5' WINCH; echo ready; while :; do sleep 0.05; done")));
        EXPECT_EQ(co_await read_some(*session, 7), "ready\r\n");
        session->resize({.columns = 132, .rows = 50});
        const auto done = co_await read_all(session, {.out = 7, .err = 0});
        EXPECT_EQ(done.out, "50 132\r\n");
        EXPECT_EQ(done.ending(), "exited 5");
    });
}

TEST_F(ExecTest, TerminalInterruptsItsForeground) {
    run([&]() -> Awaitable<void> {
        auto session = must(co_await channel_->open(on_terminal("echo ready; exec sleep 100")));
        co_await read_some(*session, 7);
        must(co_await session->write("\x03"));
        EXPECT_EQ((co_await read_all(session, {.out = 7, .err = 0})).ending(), "signalled 2");
    });
}

TEST_F(ExecTest, EndOfInputEndsATerminalsReader) {
    run([&]() -> Awaitable<void> {
        const auto done = co_await finish(on_terminal("stty -echo; cat; echo over"), "");
        EXPECT_TRUE(contains(done.out, "over")) << done.out;
    });
}

TEST_F(ExecTest, SignalsReachTheGroup) {
    run([&]() -> Awaitable<void> {
        auto session = must(
            co_await channel_->open(shell("trap 'echo got; exit 3' USR1; echo ready; sleep 100 & wait")));
        co_await read_some(*session, 6);
        session->signal(SIGUSR1);
        const auto done = co_await read_all(session, {.out = 6, .err = 0});
        EXPECT_EQ(done.out, "got\n");
        EXPECT_EQ(done.ending(), "exited 3");
    });
}

// Processes whose command line holds `mark`.
int count_processes(const std::string& mark) {
    int count = 0;
    for (const auto& entry : std::filesystem::directory_iterator{"/proc"}) {
        const auto text = read_file(entry.path() / "cmdline", 65536);
        count += text && contains(*text, mark);
    }
    return count;
}

TEST_F(ExecTest, TimeLimitKillsAllOfIt) {
    if (agent_.is_in_guest()) GTEST_SKIP() << "looks at the agent's machine from outside";
    run([&]() -> Awaitable<void> {
        const std::string mark = "31536." + std::to_string(::getpid());
        auto spec = shell("setsid sleep " + mark + " & sleep " + mark);
        exec_of(spec).time_limit = 300ms;
        const auto done = co_await finish(std::move(spec));
        EXPECT_EQ(done.ending(), "timed out");
        EXPECT_EQ(count_processes(mark), 0);
    });
}

TEST_F(ExecTest, CancelKillsAllOfIt) {
    if (agent_.is_in_guest()) GTEST_SKIP() << "looks at the agent's machine from outside";
    run([&]() -> Awaitable<void> {
        const std::string mark = "31537." + std::to_string(::getpid());
        auto session = must(
            co_await channel_->open(shell("sleep " + mark + " & sleep " + mark + " & echo ready; wait")));
        co_await read_some(*session, 6);
        EXPECT_GE(count_processes(mark), 2);
        session->cancel();
        while (!must(co_await channel_->sessions()).empty()) must(co_await channel_->ping());
        while (count_processes(mark) > 0) must(co_await channel_->ping());
        const auto after = co_await session->next();
        EXPECT_FALSE(after);
        if (!after) {
            EXPECT_EQ(after.error().code, Errc::cancelled);
        }
    });
}

TEST_F(ExecTest, BackgroundProcessesDoNotHoldTheSession) {
    run([&]() -> Awaitable<void> {
        const auto done = co_await finish(shell("sleep 3 & echo started"));
        EXPECT_EQ(done.out, "started\n");
        EXPECT_EQ(done.ending(), "exited 0");
    });
}

TEST_F(ExecTest, RunsManyAtOnce) {
    run([&]() -> Awaitable<void> {
        std::vector<std::shared_ptr<Session>> sessions;
        for (int i = 0; i < 100; ++i) {
            sessions.push_back(must(co_await channel_->open(shell("echo " + std::to_string(i)))));
        }
        for (int i = 0; i < 100; ++i) {
            const auto done = co_await read_all(sessions[static_cast<std::size_t>(i)]);
            EXPECT_EQ(done.out, std::to_string(i) + "\n");
        }
    });
}

TEST_F(ExecTest, RefusesWhatTheGuestWouldNotTake) {
    run([&]() -> Awaitable<void> {
        const auto large = co_await channel_->open(command("echo", std::string(2 << 20, 'x')));
        EXPECT_FALSE(large);
        if (!large) {
            EXPECT_EQ(large.error().code, Errc::too_large);
        }
        const auto with_nul = co_await channel_->open(command("echo", std::string("a\0b", 3)));
        EXPECT_FALSE(with_nul);
        if (!with_nul) {
            EXPECT_EQ(with_nul.error().code, Errc::invalid);
        }
    });
}

TEST_F(ExecTest, NothingFollowsTheEnd) {
    run([&]() -> Awaitable<void> {
        auto session = must(co_await channel_->open(command("true")));
        co_await read_all(session);
        const auto after = co_await session->next();
        EXPECT_FALSE(after);
        if (!after) {
            EXPECT_EQ(after.error().code, Errc::conflict);
        }
        session.reset();
        // Forgotten in the guest, too.
        while (!must(co_await channel_->sessions()).empty()) must(co_await channel_->ping());
    });
}

}  // namespace
}  // namespace noid::channel
