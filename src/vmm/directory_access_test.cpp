#include "vmm/directory_access.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <filesystem>
#include <fstream>

#include "base/file.hpp"
#include "base/temporary_directory.hpp"
#include "launcher/launcher.hpp"

namespace noid::vmm {
namespace {

constexpr launcher::Credentials user{.user = 64001, .group = 64001};
constexpr launcher::Credentials other{.user = 64002, .group = 64002};

class DirectoryAccessTest : public testing::Test {
  protected:
    void SetUp() override {
        if (::geteuid() != 0) GTEST_SKIP() << "needs root";
        for (const auto* name : {"disk", "memory"}) {
            std::ofstream{path(name)} << "x";
            std::filesystem::permissions(path(name), std::filesystem::perms(0600));
        }
    }
    [[nodiscard]] std::filesystem::path path(const std::string& name) const { return home_.path() / name; }

    // Whether `who` gets that done in the directory.
    [[nodiscard]] bool can(const std::string& script, const launcher::Credentials& who = user) const {
        launcher::ProcessSpec spec;
        spec.program = "/bin/sh";
        spec.arguments = {"-c", "cd " + home_.path().string() + " && " + script};
        spec.environment = {"PATH=/usr/bin:/bin"};
        spec.confinement.credentials = who;
        const auto child = launcher::launch(spec);
        EXPECT_TRUE(child) << child.error().full();
        if (!child) return false;
        siginfo_t info{};
        ::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(child->pidfd.get()), &info, WEXITED);
        return info.si_status == 0;
    }

    // As what is made in there is from the beginning.
    void give_to_group(const std::string& name) const {
        ASSERT_EQ(::chown(path(name).c_str(), static_cast<uid_t>(-1), user.group), 0);
    }

    TemporaryDirectory home_ = std::move(*TemporaryDirectory::create());
    Fd directory_ = std::move(*open_directory(home_.path()));
};

TEST_F(DirectoryAccessTest, TheUserWorksInTheDirectoryButTakesNothingAway) {
    EXPECT_FALSE(can("true"));
    ASSERT_TRUE(let_in(directory_, user.group, Makes::files));
    give_to_group("disk");
    EXPECT_FALSE(can("cat disk"));
    ASSERT_TRUE(let_write(directory_, "disk"));
    EXPECT_TRUE(can("echo y >>disk"));
    EXPECT_TRUE(can("echo own >socket && rm socket"));
    EXPECT_FALSE(can("rm -f disk"));
    EXPECT_FALSE(can("mv disk elsewhere"));
    EXPECT_FALSE(can("cat memory"));
    EXPECT_FALSE(can("true", other));
    // What is made from now on is the group's without further ado.
    std::ofstream{path("state")} << "x";
    std::filesystem::permissions(path("state"), std::filesystem::perms(0600));
    EXPECT_FALSE(can("cat state"));
    ASSERT_TRUE(let_write(directory_, "state"));
    EXPECT_TRUE(can("echo y >>state"));
}

TEST_F(DirectoryAccessTest, AUserThatMakesNothingCannotLeaveAnythingBehind) {
    ASSERT_TRUE(let_in(directory_, user.group, Makes::nothing));
    give_to_group("disk");
    ASSERT_TRUE(let_write(directory_, "disk"));
    EXPECT_TRUE(can("echo y >>disk"));
    EXPECT_FALSE(can("echo own >file"));
    EXPECT_FALSE(can("mkdir directory"));
    EXPECT_FALSE(can("rm -f disk"));
}

TEST_F(DirectoryAccessTest, SealedFilesAreReadAndNeverWritten) {
    ASSERT_TRUE(let_in(directory_, user.group, Makes::files));
    give_to_group("memory");
    ASSERT_TRUE(let_write(directory_, "memory"));
    EXPECT_TRUE(can("echo y >>memory"));
    ASSERT_TRUE(seal(directory_, "memory"));
    EXPECT_TRUE(can("cat memory >/dev/null"));
    EXPECT_FALSE(can("echo y >>memory"));
    EXPECT_FALSE(can("chmod u+w memory"));
}

TEST_F(DirectoryAccessTest, ALinkInPlaceOfAFileIsRefused) {
    std::filesystem::remove(path("memory"));
    std::filesystem::create_symlink("/etc/shadow", path("memory"));
    ASSERT_EQ(::mkfifo(path("log").c_str(), 0600), 0);
    struct stat before {};
    ASSERT_EQ(::stat("/etc/shadow", &before), 0);
    EXPECT_EQ(seal(directory_, "memory").error().code, Errc::corrupt);
    EXPECT_EQ(let_write(directory_, "memory").error().code, Errc::corrupt);
    EXPECT_EQ(let_write(directory_, "log").error().code, Errc::corrupt);
    struct stat after {};
    ASSERT_EQ(::stat("/etc/shadow", &after), 0);
    EXPECT_EQ(before.st_mode, after.st_mode);
}

}  // namespace
}  // namespace noid::vmm
