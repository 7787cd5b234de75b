// A shell in the place of a VMM that has been taken over by its guest: what it tries, and what it gets.
#include "launcher/confinement.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "base/file.hpp"
#include "base/temporary_directory.hpp"
#include "launcher/captured_output.hpp"
#include "launcher/launcher.hpp"

namespace noid::launcher {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr Credentials somebody{.user = 64001, .group = 64001};

// Where its namespaces come from.
enum class Namespaces : std::uint8_t { made_at_start, made_before };

class ConfinementTest : public testing::TestWithParam<Namespaces> {
  protected:
    void SetUp() override {
        if (::geteuid() != 0) GTEST_SKIP() << "needs root";
        // It brings everything along: in a root of its own there are no libraries.
        const auto busybox = find_program("busybox");
        if (!busybox) GTEST_SKIP() << "needs busybox";
        busybox_ = *busybox;
        own_ = home_.path() / "own";
        std::filesystem::create_directory(own_);
        std::filesystem::create_directory(home_.path() / "other");
        std::ofstream{other_file()} << "another VM's secret";
        std::filesystem::permissions(other_file(), std::filesystem::perms(0666));
        ASSERT_EQ(::chown(own_.c_str(), somebody.user, somebody.group), 0);
    }

    [[nodiscard]] std::string other_file() const { return home_.path() / "other" / "disk"; }

    // As a VMM is started, with a script in its place.
    [[nodiscard]] ProcessSpec confined(const std::string& script) const {
        ProcessSpec spec;
        spec.program = busybox_;
        spec.arguments = {"sh", "-c", "b=" + busybox_.string() + "; " + script};
        spec.directory = own_;
        spec.confinement.credentials = somebody;
        spec.confinement.root =
            PrivateRoot{.readable = {busybox_}, .writable = {own_}, .devices = {"/dev/null"}};
        spec.confinement.own_pids = spec.confinement.own_ipc = spec.confinement.own_host_name = true;
        if (GetParam() == Namespaces::made_before)
            spec.confinement.ready = std::move(*ReadyNamespaces::make());
        return spec;
    }
    static std::string output_of(ProcessSpec spec) {
        auto output = CapturedOutput::create(64 * 1024);
        EXPECT_TRUE(output);
        for (const int number : {1, 2}) spec.descriptors.push_back({number, std::move(*output->writer())});
        const auto child = launch(spec);
        EXPECT_TRUE(child) << child.error().full();
        if (!child) return {};
        siginfo_t info{};
        ::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(child->pidfd.get()), &info, WEXITED);
        return output->text(64 * 1024);
    }
    [[nodiscard]] std::string try_to(const std::string& script) const { return output_of(confined(script)); }

    TemporaryDirectory home_ = std::move(*TemporaryDirectory::create());
    std::filesystem::path busybox_;
    std::filesystem::path own_;
};

TEST_P(ConfinementTest, SeesNothingButWhatItWasGiven) {
    const auto seen = try_to("$b find / -type f -o -type c | $b sort");
    EXPECT_EQ(seen, "/dev/null\n" + busybox_.string() + "\n");
    EXPECT_THAT(try_to("$b cat " + other_file()), HasSubstr("No such file"));
    EXPECT_THAT(try_to("$b ls /proc /sys /etc"),
                AllOf(HasSubstr("/proc: No such"), HasSubstr("/sys: No such"), HasSubstr("/etc: No such")));
}

TEST_P(ConfinementTest, WritesOnlyItsOwnDirectory) {
    EXPECT_EQ(try_to("$b pwd; echo new >file; $b cat file"), own_.string() + "\nnew\n");
    EXPECT_TRUE(std::filesystem::exists(own_ / "file"));
    EXPECT_THAT(try_to("echo x >/file"), HasSubstr("Read-only file system"));
    auto spec = confined("echo x >>" + other_file());
    spec.confinement.root->readable.emplace_back(other_file());
    EXPECT_THAT(output_of(std::move(spec)), HasSubstr("Read-only file system"));
}

TEST_P(ConfinementTest, IsStartedAlsoWhileThreadsBegin) {
    constexpr int rounds = 100;
    for (int round = 0; round < rounds; ++round) {
        const std::jthread starter{[this] { EXPECT_EQ(try_to("$b echo up"), "up\n"); }};
        std::vector<std::jthread> others;
        for (int i = 0; i < 4; ++i) others.emplace_back([] {});
    }
}

TEST_P(ConfinementTest, CannotWidenItsRights) {
    EXPECT_EQ(try_to("$b id -u; $b id -g; $b id -G"), "64001\n64001\n64001\n");
    EXPECT_THAT(try_to("$b mount -t tmpfs none " + own_.string()), HasSubstr("ermi"));
    EXPECT_THAT(try_to("$b mknod disk b 8 0"), HasSubstr("Operation not permitted"));
    EXPECT_THAT(try_to("$b chroot . /x"), HasSubstr("Operation not permitted"));
    EXPECT_THAT(try_to("$b hostname other"), HasSubstr("Operation not permitted"));

    const auto child = launch(confined("$b sleep 60"));
    ASSERT_TRUE(child);
    const auto status = read_file("/proc/" + std::to_string(child->identity.pid) + "/status", 64 * 1024);
    ASSERT_TRUE(status);
    for (const auto* set : {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"})
        EXPECT_THAT(*status, HasSubstr(std::string{set} + ":\t0000000000000000\n"));
    EXPECT_THAT(*status, HasSubstr("NoNewPrivs:\t1\n"));
    ::kill(child->identity.pid, SIGKILL);
    ::waitpid(child->identity.pid, nullptr, 0);
}

TEST_P(ConfinementTest, CannotReachOtherProcesses) {
    const auto mine = std::to_string(::getpid());
    EXPECT_EQ(try_to("echo $$"), "1\n");
    EXPECT_THAT(try_to("$b kill -0 " + mine), HasSubstr("No such process"));
    // Even with their numbers in sight another user's processes are out of reach.
    auto spec = confined("$b kill -0 " + mine);
    spec.confinement.own_pids = false;
    EXPECT_THAT(output_of(std::move(spec)), HasSubstr("Operation not permitted"));
}

TEST_P(ConfinementTest, FindsNobodyInAnEmptyNetwork) {
    const std::string look = "$b ip -o link; $b wget -qO- http://127.0.0.1:1/";
    EXPECT_THAT(try_to(look), HasSubstr("Connection refused"));
    auto spec = confined(look);
    spec.confinement.own_network = true;
    EXPECT_THAT(output_of(std::move(spec)),
                AllOf(HasSubstr("1: lo: <LOOPBACK> "), Not(HasSubstr("\n2: ")), HasSubstr("unreachable")));
}

TEST_P(ConfinementTest, CannotExhaustProcessesOrMemory) {
    auto spec = confined("for i in 1 2 3 4 5 6 7 8; do $b sleep 5 & done; echo all");
    spec.limits = {{RLIMIT_NPROC, 4}};
    EXPECT_THAT(output_of(std::move(spec)), AllOf(HasSubstr("can't fork"), Not(HasSubstr("all"))));
    spec = confined("$b dd if=/dev/null of=/dev/null bs=200M count=1");
    spec.limits = {{RLIMIT_AS, 64 << 20}};
    EXPECT_THAT(output_of(std::move(spec)), HasSubstr("memory"));
}

TEST_P(ConfinementTest, ARootThatCannotBeMadeIsAnError) {
    auto spec = confined("true");
    spec.confinement.root->readable.push_back(home_.path() / "missing");
    auto child = launch(spec);
    ASSERT_FALSE(child);
    EXPECT_EQ(child.error().code, Errc::not_found);
    EXPECT_THAT(child.error().what, HasSubstr("missing"));

    spec = confined("true");
    spec.confinement.root->readable.emplace_back("relative");
    child = launch(spec);
    ASSERT_FALSE(child);
    EXPECT_EQ(child.error().code, Errc::invalid);

    spec = confined("true");
    spec.confinement.root->devices.push_back(busybox_);
    EXPECT_EQ(launch(spec).error().code, Errc::invalid);
}

TEST_P(ConfinementTest, TheHostKeepsItsMounts) {
    EXPECT_EQ(try_to("true"), "");
    EXPECT_TRUE(std::filesystem::exists(other_file()));
    struct stat status {};
    ASSERT_EQ(::stat(busybox_.c_str(), &status), 0);
    EXPECT_EQ(::access("/etc/passwd", R_OK), 0);
}

INSTANTIATE_TEST_SUITE_P(Namespaces, ConfinementTest,
                         testing::Values(Namespaces::made_at_start, Namespaces::made_before),
                         [](const auto& test) {
                             return test.param == Namespaces::made_at_start ? "MadeAtStart" : "MadeBefore";
                         });

}  // namespace
}  // namespace noid::launcher
