#include "wire/resources.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json/parse.hpp>

#include "wire/vm.hpp"

namespace noid::wire {
namespace {

using testing::HasSubstr;

TEST(ChangeVm, SaysOnlyWhatShallChange) {
    const auto change = ChangeVm::from_json(json::parse(R"({"balloon_mib": 0, "disk_ops_per_second": 50})"));
    ASSERT_TRUE(change);
    EXPECT_EQ(change->balloon_mib, 0U);
    EXPECT_EQ(change->disk_ops_per_second, 50U);
    EXPECT_FALSE(change->disk_bytes_per_second);
    EXPECT_EQ(*ChangeVm::from_json(to_json(*change)), *change);
    EXPECT_EQ(*ChangeVm::from_json(json::parse("{}")), ChangeVm{});
}

TEST(ChangeVm, AMisspeltLimitIsAnError) {
    for (const auto* text : {R"({"disk_iops": 5})", R"({"balloon_mib": -1})", R"({"balloon_mib": "5"})",
                             R"({"balloon_mib": 1.5})", "[]", "3"})
        EXPECT_EQ(ChangeVm::from_json(json::parse(text)).error().code, Errc::invalid) << text;
    EXPECT_THAT(ChangeVm::from_json(json::parse(R"({"ballon_mib": 5})")).error().what,
                HasSubstr("field 'ballon_mib' is unknown"));
}

TEST(Numbers, GoThereAndBackAndLeaveOutWhatIsNotKnown) {
    GuestMemory memory;
    memory.balloon_bytes = 1;
    memory.available_bytes = 2;
    const auto text = to_json(memory);
    EXPECT_EQ(text.size(), 2U);
    EXPECT_EQ(GuestMemory::from_json(text)->available_bytes, 2U);
    DeviceCounters counters;
    counters.disk_errors = 3;
    counters.seccomp_faults = 0;
    const auto counted = to_json(counters);
    EXPECT_EQ(counted.size(), 7U);
    EXPECT_EQ(DeviceCounters::from_json(counted)->disk_errors, 3U);
    EXPECT_EQ(DeviceCounters::from_json(counted)->seccomp_faults, 0U);
}

// Clients of before know nothing of them, and VMs of before have none.
TEST(Numbers, AreAdditionsToAVm) {
    VmInfo vm;
    vm.name = "a";
    vm.state = "running";
    vm.created_at = "2026-01-01 00:00:00";
    for (const auto* added :
         {"balloon_mib", "disk_bytes_per_second", "disk_ops_per_second", "guest_memory", "devices"})
        EXPECT_FALSE(to_json(vm).contains(added)) << added;
    vm.balloon_mib = 64;
    vm.guest_memory.emplace().balloon_bytes = 5;
    vm.devices.emplace().disk_reads = 6;
    const auto back = VmInfo::from_json(to_json(vm));
    ASSERT_TRUE(back);
    EXPECT_EQ(back->balloon_mib, 64U);
    EXPECT_EQ(back->guest_memory->balloon_bytes, 5U);
    EXPECT_EQ(back->devices->disk_reads, 6U);
}

}  // namespace
}  // namespace noid::wire
