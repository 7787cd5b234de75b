#include "privileged/data_directory.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/temporary_directory.hpp"

namespace noid::privileged {
namespace {

namespace fs = std::filesystem;

constexpr launcher::UserRange vmms{.first = 64'100, .count = 4};
const ServerUser server{{64'000, 64'001}, {}, "server"};

class DataDirectoryTest : public testing::Test {
  protected:
    void SetUp() override {
        if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    }
    [[nodiscard]] fs::path data() const { return home_.path() / "data"; }
    [[nodiscard]] fs::path vm() const { return data() / "users" / "1" / "vms" / "a"; }
    static void write(const fs::path& path, mode_t mode = 0600) {
        std::ofstream{path} << "x";
        ASSERT_EQ(::chmod(path.c_str(), mode), 0);
    }
    static struct stat look(const fs::path& path) {
        struct stat status {};
        EXPECT_EQ(::lstat(path.c_str(), &status), 0) << path;
        return status;
    }
    static uid_t owner(const fs::path& path) { return look(path).st_uid; }
    static gid_t group(const fs::path& path) { return look(path).st_gid; }
    static mode_t mode(const fs::path& path) { return look(path).st_mode & 07777; }

    // As a server leaves it that ran as root, with a VM that runs.
    void fill() const {
        fs::create_directories(vm());
        fs::create_directories(data() / "images");
        for (const char* name : {"server.toml", "config.toml", "noid.db", "pool.btrfs", "server.log"})
            write(data() / name);
        write(data() / "images" / "vmlinux");
        write(vm() / "rootfs.ext4", 0660);
        write(vm() / "vmms");
        for (const auto& path : {vm(), vm() / "rootfs.ext4"})
            ASSERT_EQ(::chown(path.c_str(), 0, vmms.first), 0);
        ASSERT_EQ(::chmod(vm().c_str(), 01770), 0);
        ASSERT_EQ(::chown((vm() / "vmms").c_str(), vmms.first, vmms.first), 0);
    }

    TemporaryDirectory home_ = std::move(*TemporaryDirectory::create());
};

TEST_F(DataDirectoryTest, ANewOneIsRootsAndOpenToTheServer) {
    ASSERT_TRUE(share_data_directory(data(), server, vmms));
    EXPECT_EQ(owner(data()), 0U);
    EXPECT_EQ(group(data()), 64'001U);
    EXPECT_EQ(mode(data()), 01770U);
    EXPECT_EQ(owner(data() / "images"), 0U);
    EXPECT_EQ(group(data() / "images"), 64'001U);
}

TEST_F(DataDirectoryTest, WhatAnEarlierServerLeftIsGivenAndRootsOwnIsNot) {
    fill();
    ASSERT_TRUE(share_data_directory(data(), server, vmms));
    EXPECT_EQ(mode(data()), 01770U);
    for (const auto& path : {data() / "noid.db", data() / "users", vm().parent_path(), vm()})
        EXPECT_EQ(owner(path), 64'000U) << path;
    EXPECT_EQ(group(data() / "users"), 64'001U);
    for (const char* name : {"server.toml", "config.toml", "pool.btrfs", "server.log", "images"})
        EXPECT_EQ(owner(data() / name), 0U) << name;
    EXPECT_EQ(mode(data() / "server.toml"), 0600U);
    // A running VMM keeps its way in, and what the server makes there is its group's from now on.
    EXPECT_EQ(group(vm()), vmms.first);
    EXPECT_EQ(mode(vm()), 03770U);
    EXPECT_EQ(owner(vm() / "rootfs.ext4"), 64'000U);
    EXPECT_EQ(group(vm() / "rootfs.ext4"), vmms.first);
    EXPECT_EQ(mode(vm() / "rootfs.ext4"), 0660U);
    EXPECT_EQ(owner(vm() / "vmms"), vmms.first);
    // Images are read.
    EXPECT_EQ(group(data() / "images" / "vmlinux"), 64'001U);
    EXPECT_EQ(mode(data() / "images" / "vmlinux"), 0640U);
}

TEST_F(DataDirectoryTest, NoLinkIsFollowed) {
    fill();
    const auto secret = home_.path() / "secret";
    write(secret);
    fs::create_directory(home_.path() / "elsewhere");
    fs::create_symlink(secret, data() / "users" / "file");
    fs::create_directory_symlink(home_.path() / "elsewhere", data() / "users" / "directory");
    fs::create_symlink(secret, data() / "images" / "link");
    ASSERT_TRUE(share_data_directory(data(), server, vmms));
    EXPECT_EQ(owner(secret), 0U);
    EXPECT_EQ(mode(secret), 0600U);
    EXPECT_EQ(owner(home_.path() / "elsewhere"), 0U);
}

TEST_F(DataDirectoryTest, IsTakenOverOnce) {
    fill();
    ASSERT_TRUE(share_data_directory(data(), server, vmms));
    const auto secret = home_.path() / "secret";
    write(secret);
    write(data() / "users" / "new");
    // What a server that was taken over may have prepared, where links to others' files are allowed.
    fs::create_hard_link(secret, data() / "users" / "two names");
    ASSERT_TRUE(share_data_directory(data(), server, vmms));
    EXPECT_EQ(owner(data() / "users" / "new"), 0U);
    EXPECT_EQ(owner(secret), 0U);
    ASSERT_TRUE(give_new_files(data(), server));
    EXPECT_EQ(owner(data() / "users" / "new"), 64'000U);
    EXPECT_EQ(owner(secret), 0U);
}

TEST_F(DataDirectoryTest, ChangesHandsWithTheServersUser) {
    fill();
    ASSERT_TRUE(share_data_directory(data(), server, vmms));
    write(data() / "users" / "roots");
    const ServerUser other{{64'010, 64'010}, {}, "other"};
    ASSERT_TRUE(share_data_directory(data(), other, vmms));
    EXPECT_EQ(group(data()), 64'010U);
    EXPECT_EQ(owner(data() / "noid.db"), 64'010U);
    EXPECT_EQ(owner(vm()), 64'010U);
    EXPECT_EQ(group(vm()), vmms.first);
    EXPECT_EQ(owner(vm() / "vmms"), vmms.first);
    EXPECT_EQ(owner(data() / "users" / "roots"), 0U);
}

TEST_F(DataDirectoryTest, AnotherUsersStaysAsItIs) {
    fill();
    ASSERT_EQ(::chown(data().c_str(), 64'050, 64'050), 0);
    ASSERT_TRUE(share_data_directory(data(), server, vmms));
    EXPECT_EQ(owner(data() / "noid.db"), 0U);
    EXPECT_EQ(owner(data()), 64'050U);
    const auto user = find_server_user(usual_server_user, vmms, data());
    ASSERT_TRUE(user);
    EXPECT_EQ(user->credentials.user, 64'050U);
}

TEST_F(DataDirectoryTest, TheServersUserIsNeitherRootNorAVmms) {
    EXPECT_EQ(find_server_user("root", vmms, data()).error().code, Errc::invalid);
    EXPECT_EQ(find_server_user("nobody-called-so", vmms, data()).error().code, Errc::not_found);
    const auto daemon = find_server_user("daemon", vmms, data());
    ASSERT_TRUE(daemon);
    EXPECT_EQ(daemon->name, "daemon");
    EXPECT_EQ(
        find_server_user("daemon", {.first = daemon->credentials.user, .count = 1}, data()).error().code,
        Errc::invalid);
}

}  // namespace
}  // namespace noid::privileged
