#include "privileged/separation.hpp"

#include <gtest/gtest.h>
#include <linux/capability.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>

#include "base/file.hpp"
#include "base/temporary_directory.hpp"
#include "privileged/data_directory.hpp"
#include "privileged/local_warden.hpp"

namespace noid::privileged {
namespace {

namespace fs = std::filesystem;

constexpr launcher::UserRange vmms{.first = 64'100, .count = 4};
const ServerUser server{{64'000, 64'000}, {}, "server"};

class SeparationTest : public testing::Test {
  protected:
    void SetUp() override {
        if (::geteuid() != 0) GTEST_SKIP() << "needs root";
        ASSERT_TRUE(share_data_directory(data(), server, vmms));
    }
    // Below a directory that only root enters.
    [[nodiscard]] fs::path data() const { return home_.path() / "data"; }

    // Of a privileged part that can start nothing.
    [[nodiscard]] Separation::Plan without_programs() const {
        Separation::Plan plan;
        plan.user = server;
        plan.data_dir = data();
        plan.warden = std::move(*LocalWarden::open({.data_dir = data(), .users = vmms}));
        return plan;
    }
    [[nodiscard]] Result<Separation> begin() const {
        auto warden = LocalWarden::open({.qemu = "/bin/true",
                                         .firecracker = "/bin/true",
                                         .data_dir = data(),
                                         .users = vmms,
                                         .server = server.credentials});
        if (!warden) return fail(std::move(warden.error()));
        Separation::Plan plan;
        plan.user = server;
        plan.data_dir = data();
        plan.warden = std::move(*warden);
        return Separation::begin(std::move(plan));
    }
    // Whether that holds in a process that has been made two.
    [[nodiscard]] bool holds(const std::function<bool(Separation&)>& condition) const {
        const pid_t child = ::fork();
        if (child == 0) {
            int outcome = 2;
            {
                auto separation = begin();
                if (!separation) std::fprintf(stderr, "%s\n", separation.error().full().c_str());
                if (separation) outcome = condition(*separation) ? 0 : 1;
            }
            ::_exit(outcome);
        }
        int status = 0;
        ::waitpid(child, &status, 0);
        EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) < 2);
        return WIFEXITED(status) && WEXITSTATUS(status) == 0;
    }
    static bool has_ended(const Separation& separation) {
        pollfd wait{separation.ended().get(), POLLIN, 0};
        return ::poll(&wait, 1, 10'000) == 1;
    }

    TemporaryDirectory home_ = std::move(*TemporaryDirectory::create());
};

TEST_F(SeparationTest, NothingOfRootIsLeftInThisProcess) {
    std::ofstream{home_.path() / "secret"} << "x";
    EXPECT_TRUE(holds([&](Separation&) {
        const auto status = read_file("/proc/self/status", 1 << 16).value();
        return ::getuid() == 64'000 && ::geteuid() == 64'000 && ::getgid() == 64'000 &&
               ::getgroups(0, nullptr) == 0 && ::setuid(0) != 0 && ::seteuid(0) != 0 &&
               ::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 &&
               status.contains("CapPrm:\t0000000000000000") && status.contains("CapBnd:\t0000000000000000");
    }));
    // The way to the data directory is free, and to nothing else.
    EXPECT_TRUE(holds([&](Separation&) {
        std::ofstream{data() / "own"} << "x";
        return fs::exists(data() / "own") && ::access((home_.path() / "secret").c_str(), F_OK) != 0;
    }));
}

TEST_F(SeparationTest, WhatThisProcessIsToKeepIsAllThatItKeeps) {
    const pid_t child = ::fork();
    if (child == 0) {
        auto plan = without_programs();
        plan.own_capabilities = {CAP_NET_BIND_SERVICE};
        const auto separation = Separation::begin(std::move(plan));
        const auto status = read_file("/proc/self/status", 1 << 16).value();
        ::_exit(separation && ::getuid() == 64'000 && status.contains("CapPrm:\t0000000000000400") &&
                        status.contains("CapEff:\t0000000000000400") &&
                        status.contains("CapInh:\t0000000000000000") &&
                        status.contains("CapBnd:\t0000000000000000")
                    ? 0
                    : 1);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
}

TEST_F(SeparationTest, TheOtherHalfStartsWhatMayBeStarted) {
    EXPECT_TRUE(holds([](Separation& separation) {
        vmm::ProcessRequest version;
        version.program = vmm::QemuVersion{};
        auto started = separation.warden()->start(std::move(version));
        return started.has_value() && started->exit_status;
    }));
    EXPECT_TRUE(holds([&](Separation& separation) {
        vmm::ProcessRequest elsewhere;
        elsewhere.program = vmm::QemuStart{};
        elsewhere.spec.id = "a";
        elsewhere.spec.directory = home_.path();
        return separation.warden()->start(std::move(elsewhere)).error().code == Errc::forbidden;
    }));
}

TEST_F(SeparationTest, TheOtherHalfEndsWithThisOneAndIsMissed) {
    EXPECT_TRUE(holds([](Separation& separation) {
        separation.warden()->close();
        return has_ended(separation) && !separation.warden()->processes();
    }));
    // One that is killed leaves nothing that the next one would have to wait for.
    const pid_t killed = ::fork();
    if (killed == 0) {
        const auto separation = begin();
        ::kill(::getpid(), SIGKILL);
    }
    ::waitpid(killed, nullptr, 0);
    EXPECT_TRUE(holds([](Separation& separation) { return separation.warden()->processes().has_value(); }));
}

TEST_F(SeparationTest, WhatIsDoneAsRootIsDoneBeforeRootIsGivenUp) {
    const pid_t child = ::fork();
    if (child == 0) {
        auto plan = without_programs();
        plan.as_root = []() -> Result<void> {
            if (::geteuid() == 0) return fail(Errc::internal, "as it should be");
            return {};
        };
        const auto separation = Separation::begin(std::move(plan));
        ::_exit(!separation && separation.error().what == "as it should be" ? 0 : 1);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace noid::privileged
