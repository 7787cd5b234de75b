#include "qemu/command_line.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace noid::qemu {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;
using testing::Not;

vmm::MachineSpec spec() {
    vmm::MachineSpec spec;
    spec.id = "a,b";
    spec.directory = "/vms/a";
    spec.vcpus = 2;
    spec.memory = MiB{512};
    spec.kernel = "/images/vmlinux";
    spec.initrd = "/images/initrd.cpio";
    spec.kernel_arguments = "quiet root=/dev/vda";
    return spec;
}

const Host tcg{.accelerator = Accelerator::tcg, .tsc_khz = 2'500'000};
const Host kvm{.accelerator = Accelerator::kvm, .vhost_net = true};

// The value behind an option.
std::string value_of(const std::vector<std::string>& arguments, std::string_view option) {
    const auto found = std::find(arguments.begin(), arguments.end(), option);
    return found == arguments.end() || found + 1 == arguments.end() ? std::string{} : *(found + 1);
}
std::vector<std::string> devices_of(const std::vector<std::string>& arguments) {
    std::vector<std::string> devices;
    for (std::size_t i = 0; i + 1 < arguments.size(); ++i)
        if (arguments[i] == "-device") devices.push_back(arguments[i + 1]);
    return devices;
}

TEST(CommandLine, BootsWithTheKernel) {
    const auto arguments = command_line(spec(), tcg, {}, {});
    EXPECT_EQ(value_of(arguments, "-kernel"), "/images/vmlinux");
    EXPECT_EQ(value_of(arguments, "-initrd"), "/images/initrd.cpio");
    EXPECT_THAT(value_of(arguments, "-object"), HasSubstr("memory-backend-ram"));
    EXPECT_THAT(value_of(arguments, "-append"),
                HasSubstr("tsc_early_khz=2500000 no_timer_check mitigations=off quiet root=/dev/vda"));
    EXPECT_EQ(value_of(arguments, "-smp"), "2");
    EXPECT_THAT(arguments, Not(Contains("-incoming")));
}

TEST(CommandLine, WakesWithoutAKernelButWithTheSameDevices) {
    const Beginning beginning{.memory_file = "memory.snap", .wake = vmm::Vmm::Wake::paused};
    const auto arguments = command_line(spec(), tcg, {}, beginning);
    EXPECT_THAT(arguments, Not(Contains("-kernel")));
    EXPECT_THAT(arguments, Contains("-S"));
    EXPECT_EQ(value_of(arguments, "-incoming"), "fd:6");
    EXPECT_THAT(value_of(arguments, "-object"), HasSubstr("share=off,mem-path=memory.snap"));
    EXPECT_EQ(devices_of(arguments), devices_of(command_line(spec(), tcg, {}, {})));
}

TEST(CommandLine, NeedsNoClockHelpUnderKvm) {
    const auto arguments = command_line(spec(), kvm, {}, {});
    EXPECT_EQ(value_of(arguments, "-accel"), "kvm");
    EXPECT_EQ(value_of(arguments, "-cpu"), "host");
    EXPECT_THAT(value_of(arguments, "-append"), AllOf(Not(HasSubstr("tsc")), Not(HasSubstr("mitigations"))));
}

TEST(CommandLine, AttachesTheTap) {
    auto with_network = spec();
    with_network.network =
        vmm::NetworkAttachment{.tap = "noid3", .guest_mac = "AA:FC:00:00:00:01", .netns = {}};
    EXPECT_EQ(value_of(command_line(with_network, tcg, {}, {}), "-netdev"),
              "tap,id=network,ifname=noid3,script=no,downscript=no,vhost=off");
    EXPECT_THAT(value_of(command_line(with_network, kvm, {}, {}), "-netdev"), HasSubstr("vhost=on"));
    EXPECT_THAT(command_line(spec(), tcg, {}, {}), Not(Contains("-netdev")));
}

TEST(CommandLine, HasTheDevicesOfItsLayout) {
    auto first = spec();
    first.layout = 0;
    const auto devices = devices_of(command_line(first, tcg, {}, {}));
    EXPECT_THAT(devices, Not(Contains(HasSubstr("balloon"))));
    // Those that a machine had before there were layouts keep their places.
    auto now = devices_of(command_line(spec(), tcg, {}, {}));
    ASSERT_EQ(now.size(), devices.size() + 1);
    EXPECT_THAT(now.back(), AllOf(HasSubstr("virtio-balloon-device"), HasSubstr("deflate-on-oom=on"),
                                  HasSubstr("free-page-reporting=on"), HasSubstr("page-poison=off")));
    now.pop_back();
    EXPECT_EQ(now, devices);
}

TEST(CommandLine, LetsNoNameBecomeAnOption) {
    auto odd = spec();
    odd.rootfs = "root,readonly=on\".ext4";
    const auto arguments = command_line(odd, tcg, {}, {});
    EXPECT_EQ(value_of(arguments, "-name"), "guest=a,,b");
    EXPECT_THAT(value_of(arguments, "-blockdev"), HasSubstr(R"("filename":"root,readonly=on\".ext4")"));
}

}  // namespace
}  // namespace noid::qemu
