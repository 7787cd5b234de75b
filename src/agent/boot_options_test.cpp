#include "agent/boot_options.hpp"

#include <gtest/gtest.h>

namespace noid::agent {
namespace {

TEST(BootOptions, HasDefaultsForAnEmptyCommandLine) {
    const auto options = parse_boot_options("\n");
    EXPECT_EQ(options.root, "/dev/vda");
    EXPECT_EQ(options.init, "");
    EXPECT_EQ(options.power_off, PowerOff::power_off);
}

TEST(BootOptions, ReadsItsWordsAmongOthers) {
    const auto options =
        parse_boot_options("console=ttyS0 quiet noid.root=/dev/vdb  noid.init=/sbin/init panic=-1\n");
    EXPECT_EQ(options.root, "/dev/vdb");
    EXPECT_EQ(options.init, "/sbin/init");
}

TEST(BootOptions, TakesTheAgentAsInitByName) {
    EXPECT_EQ(parse_boot_options("noid.init=/sbin/init noid.init=agent").init, "");
}

TEST(BootOptions, IgnoresWordsThatOnlyLookAlike) {
    EXPECT_EQ(parse_boot_options("xnoid.root=/dev/vdz noid.rootx=/dev/vdz").root, "/dev/vda");
}

TEST(BootOptions, StopsAtTheArgumentsForInit) {
    EXPECT_EQ(parse_boot_options("quiet -- noid.init=/evil").init, "");
}

TEST(BootOptions, KnowsFirecrackersWayToEnd) {
    EXPECT_EQ(parse_boot_options("reboot=k").power_off, PowerOff::reset);
    EXPECT_EQ(parse_boot_options("reboot=t,k").power_off, PowerOff::reset);
    EXPECT_EQ(parse_boot_options("reboot=t").power_off, PowerOff::power_off);
    EXPECT_EQ(parse_boot_options("reboot=").power_off, PowerOff::power_off);
}

}  // namespace
}  // namespace noid::agent
