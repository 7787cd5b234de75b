#include "firecracker/jail.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/file.hpp"
#include "base/temporary_directory.hpp"
#include "firecracker/stdio_fifos.hpp"

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
    EXPECT_TRUE(confined.own_network);

    spec.initrd.clear();
    spec.network.emplace().netns = "/run/netns/noid3";
    confined = confinement("/bin/firecracker", spec, user);
    EXPECT_EQ(confined.network_namespace, "/run/netns/noid3");
    EXPECT_FALSE(confined.own_network);
    EXPECT_THAT(confined.root->readable, ElementsAre("/bin/firecracker", "/images/vmlinux"));
    EXPECT_THAT(confined.root->devices, ElementsAre("/dev/kvm", "/dev/net/tun"));
}

TEST(Limits, LeaveRoomForFirecrackerItself) {
    vmm::MachineSpec spec;
    spec.memory = MiB{512};
    spec.vcpus = 2;
    const auto limits = limits_of(spec);
    EXPECT_EQ(limits.memory, std::uint64_t{512 + 64} << 20);
    EXPECT_EQ(limits.cpu_percent, 250U);
    EXPECT_EQ(limits.tasks, 18U);
}

TEST(HandOver, OpensWhatFirecrackerUses) {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    const auto home = TemporaryDirectory::create();
    ASSERT_TRUE(home);
    std::ofstream{home->path() / "rootfs.ext4"} << "x";
    for (const auto* name : {input_fifo, output_fifo, log_fifo})
        ASSERT_EQ(::mkfifo((home->path() / name).c_str(), 0600), 0);
    vmm::MachineSpec spec;
    spec.directory = home->path();
    const auto directory = open_directory(home->path());
    ASSERT_TRUE(directory);
    ASSERT_TRUE(hand_over(*directory, spec, user));
    for (const auto* name : {"rootfs.ext4", input_fifo, output_fifo, log_fifo}) {
        struct stat status {};
        ASSERT_EQ(::stat((home->path() / name).c_str(), &status), 0);
        EXPECT_EQ(status.st_gid, user.group) << name;
        EXPECT_EQ(status.st_mode & 07777, 0660U) << name;
    }
}

}  // namespace
}  // namespace noid::firecracker
