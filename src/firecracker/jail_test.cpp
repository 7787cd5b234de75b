#include "firecracker/jail.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <filesystem>
#include <fstream>

#include "base/file.hpp"
#include "base/temporary_directory.hpp"
#include "firecracker/stdio_fifos.hpp"
#include "launcher/launcher.hpp"

namespace noid::firecracker {
namespace {

using testing::ElementsAre;

constexpr launcher::Credentials user{.user = 64001, .group = 64001};

TEST(Confinement, HoldsWhatOneVmNeeds) {
    vmm::MachineSpec spec;
    spec.directory = "/data/vms/a";
    spec.kernel = "/images/vmlinux";
    spec.initrd = "/images/initrd.cpio";
    auto confined = confinement("/bin/firecracker", spec, user);
    EXPECT_EQ(confined.credentials->user, 64001U);
    EXPECT_THAT(confined.root->readable,
                ElementsAre("/bin/firecracker", "/images/vmlinux", "/images/initrd.cpio"));
    EXPECT_THAT(confined.root->writable, ElementsAre("/data/vms/a"));
    EXPECT_THAT(confined.root->devices, ElementsAre("/dev/kvm"));

    spec.initrd.clear();
    spec.network.emplace().netns = "/run/netns/noid3";
    confined = confinement("/bin/firecracker", spec, user);
    EXPECT_EQ(confined.network_namespace, "/run/netns/noid3");
    EXPECT_THAT(confined.root->readable, ElementsAre("/bin/firecracker", "/images/vmlinux"));
    EXPECT_THAT(confined.root->devices, ElementsAre("/dev/kvm", "/dev/net/tun"));
}

class JailTest : public testing::Test {
  protected:
    void SetUp() override {
        if (::geteuid() != 0) GTEST_SKIP() << "needs root";
        for (const auto* name : {"rootfs.ext4", "memory.snap", "vmstate.snap"})
            std::ofstream{path(name)} << "x";
        for (const auto* name : {input_fifo, output_fifo, log_fifo})
            ASSERT_EQ(::mkfifo(path(name).c_str(), 0600), 0);
        spec_.directory = home_.path();
    }
    [[nodiscard]] std::filesystem::path path(const std::string& name) const { return home_.path() / name; }

    // Whether the confined user gets that done in the VM's directory.
    [[nodiscard]] bool can(const std::string& script) const {
        launcher::ProcessSpec spec;
        spec.program = "/bin/sh";
        spec.arguments = {"-c", script};
        spec.environment = {"PATH=/usr/bin:/bin"};
        spec.directory = home_.path();
        spec.confinement.credentials = user;
        const auto child = launcher::launch(spec);
        EXPECT_TRUE(child) << child.error().full();
        if (!child) return false;
        siginfo_t info{};
        ::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(child->pidfd.get()), &info, WEXITED);
        return info.si_status == 0;
    }

    TemporaryDirectory home_ = std::move(*TemporaryDirectory::create());
    Fd directory_ = std::move(*open_directory(home_.path()));
    vmm::MachineSpec spec_;
    const vmm::SnapshotFiles files_;
};

TEST_F(JailTest, TheUserWorksInTheDirectoryButTakesNothingAway) {
    ASSERT_TRUE(hand_over(directory_, spec_, user));
    EXPECT_TRUE(can("echo y >>rootfs.ext4"));
    EXPECT_TRUE(can("echo own >api.sock && rm api.sock"));
    EXPECT_TRUE(can("exec 3<>vmm.log"));
    EXPECT_FALSE(can("rm -f rootfs.ext4"));
    EXPECT_FALSE(can("mv rootfs.ext4 elsewhere"));
}

TEST_F(JailTest, SealedFilesAreReadAndNeverWritten) {
    ASSERT_TRUE(hand_over(directory_, spec_, user));
    ASSERT_TRUE(let_write(directory_, "memory.snap", user));
    EXPECT_TRUE(can("echo y >>memory.snap"));
    ASSERT_TRUE(seal(directory_, files_));
    EXPECT_TRUE(can("cat memory.snap vmstate.snap >/dev/null"));
    EXPECT_FALSE(can("echo y >>memory.snap"));
    EXPECT_FALSE(can("chmod u+w memory.snap"));
}

TEST_F(JailTest, ALinkInPlaceOfAFileIsRefused) {
    std::filesystem::remove(path("memory.snap"));
    std::filesystem::create_symlink("/etc/shadow", path("memory.snap"));
    struct stat before {};
    ASSERT_EQ(::stat("/etc/shadow", &before), 0);
    EXPECT_EQ(seal(directory_, files_).error().code, Errc::corrupt);
    EXPECT_EQ(let_write(directory_, "memory.snap", user).error().code, Errc::corrupt);
    struct stat after {};
    ASSERT_EQ(::stat("/etc/shadow", &after), 0);
    EXPECT_EQ(before.st_mode, after.st_mode);
}

}  // namespace
}  // namespace noid::firecracker
