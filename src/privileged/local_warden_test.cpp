#include "privileged/local_warden.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/temporary_directory.hpp"

namespace noid::privileged {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr launcher::UserRange users{.first = 64'100, .count = 4};
constexpr launcher::Credentials server{.user = 64'000, .group = 64'000};

class LocalWardenTest : public testing::Test {
  protected:
    void SetUp() override {
        if (::geteuid() != 0) GTEST_SKIP() << "needs root";
        fs::create_directories(vm());
        std::ofstream{vm() / "rootfs.ext4"} << "disk";
        for (const auto& path : {vm(), vm() / "rootfs.ext4"})
            ASSERT_EQ(::lchown(path.c_str(), server.user, server.group), 0);
        auto warden = LocalWarden::open({.qemu = "/bin/true",
                                         .firecracker = "/bin/true",
                                         .data_dir = data(),
                                         .users = users,
                                         .server = server});
        ASSERT_TRUE(warden);
        warden_ = std::move(*warden);
    }
    [[nodiscard]] fs::path data() const { return home_.path() / "data"; }
    [[nodiscard]] fs::path vm() const { return data() / "users" / "1" / "vms" / "a"; }
    [[nodiscard]] Result<launcher::Launched> start(const fs::path& directory,
                                                   std::optional<vmm::NetworkAttachment> network = {}) const {
        vmm::ProcessRequest request;
        request.spec.id = "a";
        request.spec.directory = directory;
        request.spec.network = std::move(network);
        request.program = vmm::QemuStart{};
        return warden_->start(std::move(request));
    }
    static mode_t mode_of(const fs::path& path) {
        struct stat status {};
        EXPECT_EQ(::stat(path.c_str(), &status), 0);
        return status.st_mode & 07777;
    }

    TemporaryDirectory home_ = std::move(*TemporaryDirectory::create());
    std::unique_ptr<LocalWarden> warden_;
};

TEST_F(LocalWardenTest, ADirectoryElsewhereIsRefused) {
    const auto outside = home_.path() / "outside";
    fs::create_directory(outside);
    ASSERT_EQ(::chown(outside.c_str(), server.user, server.group), 0);
    const auto before = mode_of(outside);
    fs::create_directory_symlink(outside, data() / "users" / "link");
    for (const auto& path : {outside, data(), data() / ".." / "outside", data() / "users" / "link"}) {
        const auto started = start(path);
        EXPECT_FALSE(started) << path;
    }
    EXPECT_EQ(mode_of(outside), before);
}

TEST_F(LocalWardenTest, WhatIsNotTheServersStaysAsItIs) {
    // The directory is root's: the server may not have it given to a VMM.
    ASSERT_EQ(::chown(vm().c_str(), 0, 0), 0);
    EXPECT_EQ(start(vm()).error().code, Errc::forbidden);
    ASSERT_EQ(::chown(vm().c_str(), server.user, server.group), 0);

    const auto secret = home_.path() / "secret";
    std::ofstream{secret} << "root's";
    fs::permissions(secret, fs::perms(0600));
    fs::remove(vm() / "rootfs.ext4");
    fs::create_symlink(secret, vm() / "rootfs.ext4");
    EXPECT_EQ(start(vm()).error().code, Errc::corrupt);
    fs::remove(vm() / "rootfs.ext4");
    fs::create_hard_link(secret, vm() / "rootfs.ext4");
    EXPECT_EQ(start(vm()).error().code, Errc::forbidden);
    EXPECT_EQ(mode_of(secret), 0600U);
}

TEST_F(LocalWardenTest, OnlyASlotsNamespaceIsEntered) {
    for (const char* path :
         {"/proc/1/ns/net", "/proc/self/ns/net", "/dev/noid3", "noid3", "/run/netns/../noid3"}) {
        const auto started = start(vm(), vmm::NetworkAttachment{"tap0", "AA:FC:00:00:00:01", path});
        EXPECT_FALSE(started) << path;
    }
    // The right name for something else.
    std::ofstream{home_.path() / "noid3"} << "x";
    const auto started =
        start(vm(), vmm::NetworkAttachment{"tap0", "AA:FC:00:00:00:01", home_.path() / "noid3"});
    ASSERT_FALSE(started);
    EXPECT_THAT(started.error().what, HasSubstr("no network namespace"));
}

TEST_F(LocalWardenTest, OpensTheDirectoryToOneGroup) {
    // What runs here is no QEMU; how far it comes does not matter.
    [[maybe_unused]] const auto started = start(vm());
    struct stat directory {};
    ASSERT_EQ(::stat(vm().c_str(), &directory), 0);
    EXPECT_EQ(directory.st_uid, server.user);
    EXPECT_GE(directory.st_gid, users.first);
    EXPECT_EQ(mode_of(vm()), 02750U);
    EXPECT_EQ(mode_of(vm() / "rootfs.ext4"), 0660U);
}

TEST_F(LocalWardenTest, ReclaimsInTheServersDirectoriesOnly) {
    const auto outside = home_.path() / "outside";
    fs::create_directory(outside);
    fs::create_directory_symlink(outside, data() / "users" / "link");
    for (const auto& place : {outside, data(), vm()}) {
        std::ofstream{place / "vmms"} << "x";
        ASSERT_EQ(::chown((place / "vmms").c_str(), users.first, users.first), 0);
    }
    ASSERT_EQ(::chown(outside.c_str(), server.user, server.group), 0);
    ASSERT_EQ(::chown(data().c_str(), server.user, server.group), 0);
    for (const auto& path :
         {outside, data(), data() / ".." / "outside", data() / "users" / "link", fs::path{"/"}})
        EXPECT_FALSE(warden_->reclaim(path)) << path;
    EXPECT_TRUE(fs::exists(outside / "vmms"));
    EXPECT_TRUE(fs::exists(data() / "vmms"));
    EXPECT_EQ(warden_->reclaim(vm()), vmm::Reclaimed::all);
    EXPECT_FALSE(fs::exists(vm() / "vmms"));

    std::ofstream{vm() / "vmms"} << "x";
    ASSERT_EQ(::chown((vm() / "vmms").c_str(), users.first, users.first), 0);
    ASSERT_EQ(::chown(vm().c_str(), 0, 0), 0);
    EXPECT_EQ(warden_->reclaim(vm()).error().code, Errc::forbidden);
    EXPECT_TRUE(fs::exists(vm() / "vmms"));
}

TEST_F(LocalWardenTest, AForeignProcessIsLeftAlone) {
    const auto self = identify(::getpid());
    ASSERT_TRUE(self);
    EXPECT_EQ(warden_->adopt(*self, vm()).error().code, Errc::forbidden);
    const auto init = identify(1);
    ASSERT_TRUE(init);
    EXPECT_EQ(warden_->adopt(*init, vm()).error().code, Errc::forbidden);
    EXPECT_EQ(warden_->adopt({::getpid(), self->start_time + 1}, vm()).error().code, Errc::not_found);
    EXPECT_TRUE(warden_->processes()->empty());
}

TEST_F(LocalWardenTest, OneThatHasEndedIsGoneAlsoBeforeItIsReaped) {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(0);
    siginfo_t ended{};
    ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(child), &ended, WEXITED | WNOWAIT), 0);
    const auto zombie = identify(child);
    ASSERT_TRUE(zombie);
    EXPECT_EQ(warden_->adopt(*zombie, vm()).error().code, Errc::not_found);
    ::waitpid(child, nullptr, 0);
}

}  // namespace
}  // namespace noid::privileged
