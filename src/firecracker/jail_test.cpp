#include "firecracker/jail.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
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

}  // namespace
}  // namespace noid::firecracker
