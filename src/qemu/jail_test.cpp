#include "qemu/jail.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace noid::qemu {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::Not;

constexpr launcher::Credentials user{.user = 64001, .group = 64001};

TEST(Confinement, HoldsWhatOneVmNeeds) {
    vmm::MachineSpec spec;
    spec.directory = "/data/vms/a";
    spec.kernel = "/images/vmlinux";
    auto confined = confinement("/usr/bin/qemu-system-x86_64", spec, user);
    EXPECT_EQ(confined.credentials->user, 64001U);
    EXPECT_THAT(confined.root->readable, Contains("/usr"));
    EXPECT_THAT(confined.root->readable, Contains("/images/vmlinux"));
    // It lies in /usr.
    EXPECT_THAT(confined.root->readable, Not(Contains("/usr/bin/qemu-system-x86_64")));
    EXPECT_THAT(confined.root->writable, ElementsAre("/data/vms/a"));
    EXPECT_THAT(confined.root->devices, Not(Contains("/dev/net/tun")));
    EXPECT_TRUE(confined.own_network);

    spec.network.emplace().netns = "/run/netns/noid3";
    confined = confinement("/opt/qemu", spec, user);
    EXPECT_THAT(confined.root->readable, Contains("/opt/qemu"));
    EXPECT_EQ(confined.network_namespace, "/run/netns/noid3");
    EXPECT_FALSE(confined.own_network);
    EXPECT_THAT(confined.root->devices, Contains("/dev/net/tun"));
}

TEST(Limits, LeaveRoomForQemuItself) {
    vmm::MachineSpec spec;
    spec.memory = MiB{512};
    spec.vcpus = 2;
    const auto limits = limits_of(spec, false);
    EXPECT_EQ(limits.memory, std::uint64_t{512 + 128} << 20);
    EXPECT_EQ(limits.cpu_percent, 250U);
    EXPECT_EQ(limits.tasks, 82U);
    EXPECT_EQ(limits_of(spec, true).memory, std::uint64_t{512 + 128 + 256} << 20);
}

}  // namespace
}  // namespace noid::qemu
