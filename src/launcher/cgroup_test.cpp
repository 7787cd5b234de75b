#include "launcher/cgroup.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "base/file.hpp"
#include "base/random.hpp"
#include "launcher/launcher.hpp"

namespace noid::launcher {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::StartsWith;

constexpr CgroupLimits roomy{.memory = 64 << 20, .cpu_percent = 150, .tasks = 32};

class CgroupTest : public testing::Test {
  protected:
    void SetUp() override {
        if (::geteuid() != 0) GTEST_SKIP() << "needs root";
        const auto usual = Cgroups::usual_directory();
        if (!usual) GTEST_SKIP() << usual.error().what;
        place_ = usual->parent_path() / ("noid-test-" + random_hex(4));
        auto groups = Cgroups::open(place_);
        if (!groups) GTEST_SKIP() << groups.error().full();
        groups_.emplace(std::move(*groups));
    }
    void TearDown() override {
        if (place_.empty()) return;
        std::error_code busy;
        for (const auto& entry : fs::directory_iterator{place_, busy})
            if (entry.is_directory()) fs::remove(entry.path(), busy);
        fs::remove(place_, busy);
    }

    static Launched run_in(const Cgroup& group, const std::string& script) {
        ProcessSpec spec;
        spec.program = "/bin/sh";
        spec.arguments = {"-c", script};
        spec.environment = {"PATH=/usr/bin:/bin"};
        spec.cgroup = std::move(*group.descriptor());
        auto launched = launch(spec);
        EXPECT_TRUE(launched) << launched.error().full();
        return std::move(*launched);
    }
    static siginfo_t end_of(const Launched& process) {
        siginfo_t info{};
        ::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(process.pidfd.get()), &info, WEXITED);
        return info;
    }
    static siginfo_t kill(const Launched& process) {
        ::kill(process.identity.pid, SIGKILL);
        return end_of(process);
    }
    [[nodiscard]] std::string setting(const Cgroup& group, const std::string& file) const {
        return read_file(place_ / group.name() / file, 4096).value_or("");
    }
    [[nodiscard]] bool holds(const std::string& controller) const {
        return testing::Value(groups_->controllers(), testing::Contains(controller));
    }
    [[nodiscard]] bool exists(const std::string& name) const { return fs::exists(place_ / name); }

    fs::path place_;
    std::optional<Cgroups> groups_;
};

TEST_F(CgroupTest, IsBornInTheGroupWhichGoesWithIt) {
    std::string name;
    {
        const auto group = groups_->make("vm", roomy);
        ASSERT_TRUE(group) << group.error().full();
        name = group->name();
        EXPECT_THAT(name, StartsWith("vm."));
        const auto process = run_in(*group, "exec sleep 60");
        EXPECT_EQ(setting(*group, "cgroup.procs"), std::to_string(process.identity.pid) + "\n");
        kill(process);
        EXPECT_TRUE(exists(name));
    }
    EXPECT_FALSE(exists(name));
    EXPECT_EQ(groups_->make("a/b", roomy).error().code, Errc::invalid);
    EXPECT_EQ(groups_->make("cgroup.kill", roomy).error().code, Errc::invalid);
}

TEST_F(CgroupTest, IsFoundAgainByAnotherOwner) {
    std::optional<Cgroup> first{std::move(*groups_->make("vm", roomy))};
    const auto name = first->name();
    const auto process = run_in(*first, "exec sleep 60");
    first.reset();  // somebody is in it: it stays
    ASSERT_TRUE(exists(name));
    const auto again = Cgroups::open(place_);
    ASSERT_TRUE(again);
    ASSERT_TRUE(exists(name));
    auto found = again->of_process(process.identity.pid);
    ASSERT_TRUE(found);
    EXPECT_EQ(found->name(), name);
    EXPECT_FALSE(again->of_process(::getpid()));
    kill(process);
    found.reset();
    EXPECT_FALSE(exists(name));
}

TEST_F(CgroupTest, WhatACrashedServerLeftIsSweptAndWhatIsInUseIsNot) {
    fs::create_directory(place_ / "left");
    const auto group = groups_->make("vm", roomy);
    ASSERT_TRUE(group);
    ASSERT_TRUE(Cgroups::open(place_));
    EXPECT_FALSE(exists("left"));
    EXPECT_TRUE(exists(group->name()));
}

TEST_F(CgroupTest, TakesTheLimitsOfTheControllersThatItGot) {
    EXPECT_EQ(groups_->controllers().size() + groups_->missing().size(), 4U);
    const auto group = groups_->make("vm", roomy);
    ASSERT_TRUE(group) << group.error().full();
    if (holds("memory")) {
        EXPECT_EQ(setting(*group, "memory.max"), std::to_string(roomy.memory) + "\n");
    }
    if (holds("cpu")) {
        EXPECT_EQ(setting(*group, "cpu.max"), "150000 100000\n");
    }
    if (holds("pids")) {
        EXPECT_EQ(setting(*group, "pids.max"), "32\n");
    }
}

TEST_F(CgroupTest, NoMoreTasksThanAllowed) {
    if (!holds("pids")) GTEST_SKIP() << "no pids controller here";
    const auto group = groups_->make("vm", {.memory = 64 << 20, .cpu_percent = 100, .tasks = 5});
    ASSERT_TRUE(group);
    const auto process = run_in(*group, "for i in 1 2 3 4 5 6 7 8; do sleep 60 & done; exec sleep 60");
    end_of(process);
    EXPECT_THAT(setting(*group, "pids.events"), HasSubstr("max "));
    EXPECT_THAT(setting(*group, "pids.events"), testing::Not(HasSubstr("max 0")));
    std::ofstream{place_ / group->name() / "cgroup.kill"} << "1";
}

TEST_F(CgroupTest, NoMoreMemoryThanAllowed) {
    if (!holds("memory")) GTEST_SKIP() << "no memory controller here";
    const auto group = groups_->make("vm", {.memory = 16 << 20, .cpu_percent = 100, .tasks = 8});
    ASSERT_TRUE(group);
    const auto end = end_of(run_in(*group, "exec dd if=/dev/zero of=/dev/null bs=64M count=1 2>/dev/null"));
    EXPECT_EQ(end.si_code, CLD_KILLED);
    EXPECT_EQ(end.si_status, SIGKILL);
    EXPECT_THAT(setting(*group, "memory.events"), testing::Not(HasSubstr("oom_kill 0")));
}

TEST(Cgroups, AnOrdinaryDirectoryIsNone) {
    EXPECT_EQ(Cgroups::open("/tmp/noid").error().code, Errc::unsupported);
}

}  // namespace
}  // namespace noid::launcher
