#include "launcher/launcher.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <filesystem>
#include <thread>

#include "base/file.hpp"
#include "launcher/captured_output.hpp"

namespace noid::launcher {
namespace {

using testing::HasSubstr;
using testing::Not;

ProcessSpec shell(std::string script) {
    ProcessSpec spec;
    spec.program = "/bin/sh";
    spec.arguments = {"-c", std::move(script)};
    return spec;
}

int wait_for(const Launched& child) {
    siginfo_t info{};
    EXPECT_EQ(::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(child.pidfd.get()), &info, WEXITED),
              0);
    return info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
}

// Runs to the end; what it printed.
std::string output_of(ProcessSpec spec) {
    auto output = CapturedOutput::create(64 * 1024);
    EXPECT_TRUE(output);
    for (const int number : {1, 2}) spec.descriptors.push_back({number, std::move(*output->writer())});
    const auto child = launch(spec);
    EXPECT_TRUE(child) << child.error().what;
    if (!child) return {};
    wait_for(*child);
    return output->text(64 * 1024);
}

bool is_root() {
    return ::geteuid() == 0;
}

// As systemd's RestrictNamespaces= and many containers do.
void refuse_clone3_in_this_thread() {
    sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog program{std::size(code), code};
    ASSERT_EQ(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    ASSERT_EQ(::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

TEST(Launch, DoesWithoutClone3WhereThatIsRefused) {
    std::thread{[] {
        refuse_clone3_in_this_thread();
        EXPECT_EQ(output_of(shell("echo it runs")), "it runs\n");
    }}.join();
}

TEST(Launch, RunsAProgramWithArgumentsEnvironmentAndDirectory) {
    ::setenv("NOID_TEST_SECRET", "leaked", 1);
    auto spec = shell("printf '%s|' \"$@\"; pwd; env");
    spec.arguments.insert(spec.arguments.end(), {"name", "a b", "$HOME", ""});
    spec.environment = {"GREETING=hello"};
    spec.directory = "/usr";
    const auto text = output_of(std::move(spec));
    EXPECT_THAT(text, HasSubstr("a b|$HOME||/usr\n"));
    EXPECT_THAT(text, HasSubstr("GREETING=hello\n"));
    EXPECT_THAT(text, Not(HasSubstr("leaked")));
}

TEST(Launch, GivesTheIdentityOfTheProcess) {
    const auto child = launch(shell("exit 3"));
    ASSERT_TRUE(child) << child.error().what;
    EXPECT_GT(child->identity.pid, 0);
    EXPECT_GT(child->identity.start_time, 0U);
    EXPECT_EQ(wait_for(*child), 3);
}

TEST(Launch, SaysWhichStepFailed) {
    ProcessSpec missing;
    missing.program = "/nowhere/program";
    auto child = launch(missing);
    ASSERT_FALSE(child);
    EXPECT_EQ(child.error().code, Errc::not_found);
    EXPECT_THAT(child.error().what, HasSubstr("cannot execute the program"));

    auto lost = shell("true");
    lost.directory = "/nowhere";
    child = launch(lost);
    ASSERT_FALSE(child);
    EXPECT_THAT(child.error().what, HasSubstr("working directory"));

    auto netless = shell("true");
    netless.confinement.network_namespace = "/run/netns/does-not-exist";
    child = launch(netless);
    ASSERT_FALSE(child);
    EXPECT_EQ(child.error().code, Errc::not_found);
}

TEST(Launch, LeavesNoZombieBehindAFailure) {
    ProcessSpec missing;
    missing.program = "/nowhere/program";
    ASSERT_FALSE(launch(missing));
    EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1);
    EXPECT_EQ(errno, ECHILD);
}

TEST(Launch, StartsASessionOfItsOwnWithDefaultSignals) {
    ::signal(SIGPIPE, SIG_IGN);
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    ::pthread_sigmask(SIG_BLOCK, &blocked, nullptr);
    const auto text =
        output_of(shell("grep -E 'Sig(Blk|Ign)|NoNewPrivs' /proc/self/status; set -- $(cat /proc/$$/stat); [ "
                        "$1 = $6 ] && echo leader"));
    ::pthread_sigmask(SIG_UNBLOCK, &blocked, nullptr);
    ::signal(SIGPIPE, SIG_DFL);
    EXPECT_THAT(text, HasSubstr("SigBlk:\t0000000000000000"));
    EXPECT_THAT(text, HasSubstr("SigIgn:\t0000000000000000"));
    EXPECT_THAT(text, HasSubstr("NoNewPrivs:\t1"));
    EXPECT_THAT(text, HasSubstr("leader"));
}

TEST(Launch, PassesTheChosenDescriptorsAndNoOther) {
    const Fd stray{::open("/dev/null", O_RDONLY)};  // not close-on-exec, as a careless library leaves it
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    const Fd reader{ends[0]};
    const int second = ends[1];
    const auto exists = [](int number, std::string_view word) {
        return "[ -e /proc/$$/fd/" + std::to_string(number) + " ] && echo " + std::string{word} + ";";
    };
    auto spec = shell(exists(stray.get(), "stray") + exists(second, "second") + "echo through >&7");
    // Numbers that clash with the sources: both must arrive where they should.
    spec.descriptors.push_back({7, Fd{second}});
    spec.descriptors.push_back({second, Fd{::open("/dev/zero", O_RDONLY | O_CLOEXEC)}});
    EXPECT_EQ(output_of(std::move(spec)), "second\n");
    std::array<char, 32> got{};
    EXPECT_EQ(::read(reader.get(), got.data(), got.size()), 8);
    EXPECT_EQ(std::string(got.data()), "through\n");
}

TEST(Launch, SetsLimitsAndOomScore) {
    auto spec = shell("ulimit -n; ulimit -c; cat /proc/self/oom_score_adj");
    spec.limits = {{RLIMIT_NOFILE, 77}, {RLIMIT_CORE, 0}};
    spec.oom_score_adjustment = 321;
    EXPECT_EQ(output_of(std::move(spec)), "77\n0\n321\n");
}

TEST(Launch, RunsAsAnotherUserWithoutGroups) {
    if (!is_root()) GTEST_SKIP() << "needs root";
    auto spec = shell("id -u; id -g; id -G; cat /etc/shadow");
    spec.confinement.credentials = Credentials{.user = 65534, .group = 65534};
    const auto text = output_of(std::move(spec));
    EXPECT_EQ(text.find("65534\n65534\n65534\n"), 0U) << text;
    EXPECT_THAT(text, HasSubstr("Permission denied"));
}

TEST(Launch, GivesNamespacesOfItsOwn) {
    if (!is_root()) GTEST_SKIP() << "needs root";
    auto spec = shell("echo $$; readlink /proc/self/ns/ipc /proc/self/ns/uts");
    spec.confinement.own_mounts = spec.confinement.own_pids = spec.confinement.own_ipc =
        spec.confinement.own_host_name = true;
    const auto text = output_of(std::move(spec));
    EXPECT_EQ(text.find("1\n"), 0U) << text;
    for (const auto* kind : {"ipc", "uts"}) {
        const auto ours = std::filesystem::read_symlink(std::string{"/proc/self/ns/"} + kind).string();
        EXPECT_THAT(text, Not(HasSubstr(ours)));
    }
}

TEST(Launch, JoinsANetworkNamespace) {
    if (!is_root()) GTEST_SKIP() << "needs root";
    // A process in a fresh namespace stands for one that netd has made.
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    const pid_t holder = ::fork();
    if (holder == 0) {
        char byte = ::unshare(CLONE_NEWNET) == 0 ? 'y' : 'n';
        if (::write(ends[1], &byte, 1) != 1) ::_exit(1);
        ::pause();
        ::_exit(0);
    }
    char ready = 0;
    ASSERT_EQ(::read(ends[0], &ready, 1), 1);
    ASSERT_EQ(ready, 'y');
    const auto path = "/proc/" + std::to_string(holder) + "/ns/net";
    const auto theirs = std::filesystem::read_symlink(path).string();
    auto spec = shell("readlink /proc/self/ns/net");
    spec.confinement.network_namespace = path;
    EXPECT_EQ(output_of(std::move(spec)), theirs + "\n");
    ::kill(holder, SIGKILL);
    ::waitpid(holder, nullptr, 0);
    ::close(ends[0]);
    ::close(ends[1]);
}

TEST(Launch, IsBornInItsCgroup) {
    const std::filesystem::path parent =
        std::filesystem::exists("/sys/fs/cgroup/cgroup.procs") ? "/sys/fs/cgroup" : "/sys/fs/cgroup/unified";
    const auto group = parent / ("noid-test-" + std::to_string(::getpid()));
    if (::mkdir(group.c_str(), 0755) != 0) GTEST_SKIP() << "no cgroup v2 that this user may divide";
    auto spec = shell("grep ^0:: /proc/self/cgroup");
    spec.cgroup = std::move(*open_directory(group));
    EXPECT_THAT(output_of(std::move(spec)), HasSubstr(group.filename().string()));
    EXPECT_EQ(::rmdir(group.c_str()), 0);
}

TEST(FindProgram, LooksInTheUsualDirectories) {
    EXPECT_EQ(find_program("sh")->filename(), "sh");
    EXPECT_EQ(*find_program("/bin/sh"), "/bin/sh");
    EXPECT_EQ(find_program("no-such-program").error().code, Errc::not_found);
    EXPECT_EQ(find_program("/etc/passwd").error().code, Errc::not_found);
}

TEST(CapturedOutput, KeepsTheBeginningAndRefusesMore) {
    auto output = CapturedOutput::create(4096);
    ASSERT_TRUE(output);
    auto spec =
        shell("echo first; head -c 3000 /dev/zero | tr '\\0' a; head -c 100000 /dev/zero | tr '\\0' b");
    for (const int number : {1, 2}) spec.descriptors.push_back({number, std::move(*output->writer())});
    const auto child = launch(spec);
    ASSERT_TRUE(child);
    wait_for(*child);
    const auto text = output->text(1 << 20);
    EXPECT_LE(text.size(), 4096U);
    EXPECT_EQ(text.find("first\naaa"), 0U);
    EXPECT_EQ(output->text(5).size(), 5U);
}

TEST(CapturedOutput, IsFoundAgainThroughTheProcess) {
    auto output = CapturedOutput::create(4096);
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    auto spec = shell("echo words >&2; echo >&3; exec sleep 60");
    spec.descriptors.push_back({2, std::move(*output->writer())});
    spec.descriptors.push_back({3, Fd{ends[1]}});
    const auto child = launch(spec);
    ASSERT_TRUE(child);
    char byte = 0;
    ASSERT_EQ(::read(ends[0], &byte, 1), 1);
    ::close(ends[0]);
    const auto again = CapturedOutput::of_process(child->identity.pid);
    ASSERT_TRUE(again) << again.error().what;
    EXPECT_EQ(again->text(100), "words\n");
    EXPECT_FALSE(CapturedOutput::of_process(::getpid()));
    ::kill(child->identity.pid, SIGKILL);
    wait_for(*child);
}

}  // namespace
}  // namespace noid::launcher
