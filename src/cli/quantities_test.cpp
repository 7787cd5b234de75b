#include "cli/quantities.hpp"

#include <gtest/gtest.h>

namespace noid::cli {
namespace {

using std::chrono::milliseconds;

TEST(Durations, HaveUnitsAndSecondsWithout) {
    EXPECT_EQ(*parse_duration("30"), milliseconds{30'000});
    EXPECT_EQ(*parse_duration("1.5s"), milliseconds{1500});
    EXPECT_EQ(*parse_duration("500ms"), milliseconds{500});
    EXPECT_EQ(*parse_duration("5m"), milliseconds{300'000});
    EXPECT_EQ(*parse_duration("2h"), milliseconds{7'200'000});
    EXPECT_EQ(*parse_duration("7d"), std::chrono::days{7});
    for (const auto* text : {"", "s", "0", "-1", "1y", "1 s", "nan", "inf", "1e400", "0.1ms", "99999h"})
        EXPECT_FALSE(parse_duration(text)) << text;
}

TEST(Intervals, AreWholeSecondsOrOff) {
    EXPECT_EQ(parse_interval("5m")->length, std::chrono::minutes{5});
    EXPECT_EQ(parse_interval("off")->length, std::nullopt);
    for (const auto* text : {"", "0", "1.5s", "500ms", "never"}) EXPECT_FALSE(parse_interval(text)) << text;
}

TEST(Mebibytes, AreWhole) {
    EXPECT_EQ(*parse_mebibytes("2048"), 2048U);
    EXPECT_EQ(*parse_mebibytes("512M"), 512U);
    EXPECT_EQ(*parse_mebibytes("4G"), 4096U);
    EXPECT_EQ(*parse_mebibytes("0.5GiB"), 512U);
    for (const auto* text : {"", "0", "-5", "1.5", "1K", "1T", "4294967296", "1GG"})
        EXPECT_FALSE(parse_mebibytes(text)) << text;
}

TEST(Ports, AreFromOneTo65535) {
    EXPECT_EQ(*parse_port("1"), 1U);
    EXPECT_EQ(*parse_port("65535"), 65535U);
    for (const auto* text : {"", "0", "65536", "-1", "80x", " 80"}) EXPECT_FALSE(parse_port(text)) << text;
}

TEST(Rates, AreBytesPerSecond) {
    EXPECT_EQ(parse_rate("1"), 1U);
    EXPECT_EQ(parse_rate("500K"), 500'000U);
    EXPECT_EQ(parse_rate("1.5M"), 1'500'000U);
    EXPECT_EQ(parse_rate("1G"), 1'000'000'000U);
    EXPECT_EQ(parse_rate("off"), 0U);
    for (const auto* text : {"", "0", "-1", "10MB", "0.1", "fast", "9000000G"})
        EXPECT_FALSE(parse_rate(text)) << text;
}

}  // namespace
}  // namespace noid::cli
