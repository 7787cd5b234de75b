#include "qemu/device_answers.hpp"

#include <gtest/gtest.h>

#include <boost/json/parse.hpp>

namespace noid::qemu {
namespace {

using boost::json::parse;

constexpr MiB memory{64};

// As QEMU 7.2 answers.
constexpr auto told = R"({"stats": {"stat-htlb-pgalloc": 0, "stat-swap-out": 8192,
    "stat-available-memory": 40960000, "stat-htlb-pgfail": 0, "stat-free-memory": 30720000,
    "stat-minor-faults": 1234, "stat-major-faults": 56, "stat-total-memory": 60000000,
    "stat-swap-in": 4096, "stat-disk-caches": 5000000}, "last-update": 1795887744})";
constexpr auto not_told = R"({"stats": {"stat-htlb-pgalloc": 18446744073709551615,
    "stat-swap-out": 18446744073709551615, "stat-available-memory": 18446744073709551615,
    "stat-free-memory": 18446744073709551615, "stat-total-memory": 18446744073709551615}, "last-update": 0})";

TEST(MemoryNumbers, AreWhatTheGuestTold) {
    const auto numbers = read_memory_numbers(parse(R"({"actual": 50331648})"), parse(told), memory);
    ASSERT_TRUE(numbers) << numbers.error().what;
    EXPECT_EQ(numbers->balloon, 16U << 20);
    EXPECT_EQ(numbers->total, 60'000'000U);
    EXPECT_EQ(numbers->free, 30'720'000U);
    EXPECT_EQ(numbers->available, 40'960'000U);
    EXPECT_EQ(numbers->caches, 5'000'000U);
    EXPECT_EQ(numbers->swapped_in, 4096U);
    EXPECT_EQ(numbers->swapped_out, 8192U);
    EXPECT_EQ(numbers->major_faults, 56U);
    EXPECT_EQ(numbers->minor_faults, 1234U);
}

TEST(MemoryNumbers, AreNotThereWhenTheGuestHasNotTold) {
    const auto numbers = read_memory_numbers(parse(R"({"actual": 67108864})"), parse(not_told), memory);
    ASSERT_TRUE(numbers);
    EXPECT_EQ(numbers->balloon, 0U);
    EXPECT_FALSE(numbers->total);
    EXPECT_FALSE(numbers->available);
    EXPECT_FALSE(numbers->major_faults);
}

TEST(MemoryNumbers, WhatIsNoAnswerIsRefused) {
    for (const auto* balloon : {"{}", "[]", "null", R"({"actual": -1})", R"({"actual": 67108865})"})
        EXPECT_EQ(read_memory_numbers(parse(balloon), parse(told), memory).error().code, Errc::corrupt)
            << balloon;
    const auto size = parse(R"({"actual": 1})");
    for (const auto* statistics : {"{}", "[]", "null", "3"})
        EXPECT_EQ(read_memory_numbers(size, parse(statistics), memory).error().code, Errc::corrupt);
    // Nonsense of the guest's is as good as nothing.
    const auto nonsense = read_memory_numbers(
        size, parse(R"({"stats": {"stat-total-memory": "many", "stat-free-memory": -5}})"), memory);
    ASSERT_TRUE(nonsense);
    EXPECT_FALSE(nonsense->total);
    EXPECT_FALSE(nonsense->free);
}

TEST(DeviceNumbers, AreTheDisks) {
    const auto numbers = read_device_numbers(parse(R"([
        {"device": "", "qdev": "other", "stats": {"rd_bytes": 9}},
        {"device": "", "parent": {"stats": {"rd_bytes": 1}}, "stats": {"unmap_operations": 0,
         "wr_bytes": 4096, "rd_bytes": 8192, "wr_operations": 1, "rd_operations": 2, "flush_operations": 3,
         "failed_rd_operations": 1, "failed_wr_operations": 2, "failed_flush_operations": 4},
         "node-name": "root", "qdev": "/machine/peripheral/disk/virtio-backend"}])"));
    ASSERT_TRUE(numbers) << numbers.error().what;
    EXPECT_EQ(numbers->disk_read_bytes, 8192U);
    EXPECT_EQ(numbers->disk_written_bytes, 4096U);
    EXPECT_EQ(numbers->disk_reads, 2U);
    EXPECT_EQ(numbers->disk_writes, 1U);
    EXPECT_EQ(numbers->disk_flushes, 3U);
    EXPECT_EQ(numbers->disk_errors, 7U);
    EXPECT_FALSE(numbers->vcpu_exits);

    EXPECT_TRUE(read_device_numbers(parse(R"([{"qdev": "disk", "stats": {}}])")));
    for (const auto* answer : {"[]", "{}", "null", R"([{"qdev": "disk"}])", R"([{"qdev": 3, "stats": {}}])"})
        EXPECT_EQ(read_device_numbers(parse(answer)).error().code, Errc::corrupt) << answer;
}

}  // namespace
}  // namespace noid::qemu
