#include "privileged/reclaim.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/file.hpp"
#include "base/temporary_directory.hpp"

namespace noid::privileged {
namespace {

namespace fs = std::filesystem;

constexpr uid_t server = 64'000;
constexpr uid_t vmm = 64'101;
constexpr uid_t stranger = 64'500;
constexpr Owners owners{.vmms = {.first = 64'100, .count = 4}, .server = server};
constexpr std::size_t plenty = 1'000'000;

class ReclaimTest : public testing::Test {
  protected:
    void SetUp() override {
        if (::geteuid() != 0) GTEST_SKIP() << "needs root";
        fs::create_directory(vm());
        give(vm(), server);
        make_file(vm() / "rootfs.ext4", server);
    }
    [[nodiscard]] fs::path vm() const { return home_.path() / "vm"; }
    [[nodiscard]] fs::path outside() const { return home_.path() / "outside"; }

    static void give(const fs::path& path, uid_t user) {
        ASSERT_EQ(::lchown(path.c_str(), user, user), 0) << path;
    }
    static void make_file(const fs::path& path, uid_t user) {
        std::ofstream{path} << "x";
        give(path, user);
    }
    static void make_directory(const fs::path& path, uid_t user = vmm) {
        ASSERT_EQ(::mkdir(path.c_str(), 0700), 0) << path;
        give(path, user);
    }
    // One in another, further than any path reaches.
    static void nest(const fs::path& path, int depth) {
        make_directory(path);
        auto place = open_directory(path);
        ASSERT_TRUE(place);
        for (int i = 0; i < depth; ++i) {
            ASSERT_EQ(::mkdirat(place->get(), "directory", 0), 0);
            auto next = open_file_at(*place, "directory", O_RDONLY | O_DIRECTORY);
            ASSERT_TRUE(next);
            ASSERT_EQ(::fchown(next->get(), vmm, vmm), 0);
            place = std::move(next);
        }
    }
    [[nodiscard]] Result<vmm::Reclaimed> take_back(std::size_t most = plenty) const {
        return reclaim(*open_directory(vm()), owners, most);
    }
    [[nodiscard]] std::vector<std::string> left() const {
        std::vector<std::string> names;
        for (const auto& entry : fs::directory_iterator{vm()})
            names.push_back(entry.path().filename().string());
        return names;
    }

    TemporaryDirectory home_ = std::move(*TemporaryDirectory::create());
};

TEST_F(ReclaimTest, WhatVmmsMadeGoesAndWhatIsTheServersStays) {
    make_file(vm() / "file", vmm);
    make_directory(vm() / "closed");
    make_file(vm() / "closed" / "file", vmm);
    make_directory(vm() / "closed" / "deeper");
    make_file(vm() / "closed" / "deeper" / "file", vmm);
    make_directory(vm() / "servers", server);
    ASSERT_EQ(::mkfifo((vm() / "closed" / "fifo").c_str(), 0), 0);
    ASSERT_EQ(::mkfifo((vm() / "fifo").c_str(), 0), 0);
    give(vm() / "fifo", vmm);
    for (const auto* closed : {"closed/deeper", "closed", "file"})
        ASSERT_EQ(::chmod((vm() / closed).c_str(), 0), 0);
    EXPECT_EQ(take_back(), vmm::Reclaimed::all);
    EXPECT_THAT(left(), testing::UnorderedElementsAre("rootfs.ext4", "servers"));
}

TEST_F(ReclaimTest, NoLinkLeadsOut) {
    fs::create_directory(outside());
    make_file(outside() / "secret", 0);
    make_directory(vm() / "d");
    fs::create_directory_symlink(outside(), vm() / "link");
    fs::create_directory_symlink(outside(), vm() / "d" / "link");
    fs::create_symlink(outside() / "secret", vm() / "d" / "secret");
    give(vm() / "link", vmm);
    fs::create_hard_link(outside() / "secret", vm() / "d" / "again");
    fs::create_hard_link(vm() / "rootfs.ext4", vm() / "d" / "disk");
    EXPECT_EQ(take_back(), vmm::Reclaimed::all);
    EXPECT_THAT(left(), testing::ElementsAre("rootfs.ext4"));
    EXPECT_EQ(read_file(outside() / "secret", 16), "x");
    EXPECT_EQ(read_file(vm() / "rootfs.ext4", 16), "x");
}

TEST_F(ReclaimTest, NoDepthIsTooDeep) {
    nest(vm() / "a", 1200);
    nest(vm() / "b", 100);
    EXPECT_EQ(take_back(), vmm::Reclaimed::all);
    EXPECT_THAT(left(), testing::ElementsAre("rootfs.ext4"));
}

TEST_F(ReclaimTest, DoesNoMoreAtOnceThanItMayAndGoesOnFromThere) {
    make_directory(vm() / "d");
    nest(vm() / "d" / "deep", 50);
    for (int i = 0; i < 500; ++i) {
        make_file(vm() / "d" / std::to_string(i), vmm);
        make_file(vm() / std::to_string(i), vmm);
    }
    const auto count = [&] { return left().size(); };
    const auto before = count();
    ASSERT_EQ(take_back(100), vmm::Reclaimed::a_part);
    EXPECT_GE(count() + 100, before);
    int calls = 1;
    for (auto done = vmm::Reclaimed::a_part; done == vmm::Reclaimed::a_part; ++calls) {
        ASSERT_LT(calls, 30) << "it makes no progress";
        const auto taken = take_back(100);
        ASSERT_TRUE(taken) << taken.error().full();
        done = *taken;
    }
    EXPECT_GE(calls, 10);
    EXPECT_THAT(left(), testing::ElementsAre("rootfs.ext4"));
}

TEST_F(ReclaimTest, WhatIsNobodysHereIsLeftAlone) {
    make_directory(vm() / "strangers", stranger);
    make_file(vm() / "strangers" / "file", stranger);
    make_directory(vm() / "roots", 0);
    make_file(vm() / "roots" / "file", 0);
    EXPECT_EQ(take_back(), vmm::Reclaimed::all);
    EXPECT_TRUE(fs::exists(vm() / "strangers" / "file"));
    EXPECT_TRUE(fs::exists(vm() / "roots" / "file"));
    // Also where a VMM's user may have put it.
    make_directory(vm() / "d");
    fs::rename(vm() / "roots", vm() / "d" / "roots");
    const auto refused = take_back();
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::forbidden);
    EXPECT_TRUE(fs::exists(vm() / "d" / "roots" / "file"));
}

TEST_F(ReclaimTest, NoOtherMountIsEntered) {
    make_directory(vm() / "d");
    make_directory(vm() / "d" / "mount");
    ASSERT_EQ(::mount("none", (vm() / "d" / "mount").c_str(), "tmpfs", 0, nullptr), 0);
    make_file(vm() / "d" / "mount" / "file", vmm);
    give(vm() / "d" / "mount", vmm);
    EXPECT_FALSE(take_back());
    EXPECT_TRUE(fs::exists(vm() / "d" / "mount" / "file"));
    ASSERT_EQ(::umount((vm() / "d" / "mount").c_str()), 0);
    ASSERT_EQ(::mount("none", (vm() / "d").c_str(), "tmpfs", 0, nullptr), 0);
    make_file(vm() / "d" / "file", vmm);
    give(vm() / "d", vmm);
    EXPECT_FALSE(take_back());
    EXPECT_TRUE(fs::exists(vm() / "d" / "file"));
    ASSERT_EQ(::umount((vm() / "d").c_str()), 0);
    EXPECT_EQ(take_back(), vmm::Reclaimed::all);
}

TEST_F(ReclaimTest, TooMuchOfTheServersIsAnError) {
    for (int i = 0; i < 20; ++i) make_file(vm() / std::to_string(i), server);
    const auto taken = take_back(10);
    ASSERT_FALSE(taken);
    EXPECT_EQ(taken.error().code, Errc::too_large);
}

}  // namespace
}  // namespace noid::privileged
