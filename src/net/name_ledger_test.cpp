#include "net/name_ledger.hpp"

#include <gtest/gtest.h>

namespace noid::net {
namespace {

using namespace std::chrono_literals;

NamePattern pattern(std::string_view text) {
    return parse_name_pattern(text).value();
}

TEST(NameLedger, FindsByNameUntilTheEnd) {
    NameLedger ledger;
    const NameLedger::Clock::time_point start{1h};
    ledger.add("www.example.com", Ipv4{1}, 100s, start);
    ledger.add("example.com", Ipv4{2}, 50s, start);
    const auto below = ledger.find(pattern("*.example.com"), start + 10s);
    ASSERT_EQ(below.size(), 1U);
    EXPECT_EQ(below[0], (LearnedAddress{Ipv4{1}, 90s}));
    EXPECT_EQ(ledger.find(pattern("example.com"), start).size(), 1U);
    EXPECT_EQ(ledger.find(pattern("example.com"), start + 50s).size(), 0U);
    EXPECT_EQ(ledger.find(pattern("other.com"), start).size(), 0U);
}

TEST(NameLedger, TheLongerTimeCounts) {
    NameLedger ledger;
    const NameLedger::Clock::time_point start{1h};
    ledger.add("a.example.com", Ipv4{1}, 100s, start);
    ledger.add("a.example.com", Ipv4{1}, 10s, start);
    ledger.add("b.example.com", Ipv4{1}, 200s, start);
    const auto found = ledger.find(pattern("*.example.com"), start);
    ASSERT_EQ(found.size(), 1U);
    EXPECT_EQ(found[0].remaining, 200s);
}

// After a restart only the sets in the kernel are left, which know a pattern, not its names.
TEST(NameLedger, APatternIsFoundByItself) {
    NameLedger ledger;
    const NameLedger::Clock::time_point start{1h};
    ledger.add("*.example.com", Ipv4{1}, 100s, start);
    EXPECT_EQ(ledger.find(pattern("*.example.com"), start).size(), 1U);
    EXPECT_EQ(ledger.find(pattern("*.com"), start).size(), 1U);
    EXPECT_EQ(ledger.find(pattern("www.example.com"), start).size(), 0U);
}

TEST(NameLedger, IsBounded) {
    NameLedger ledger;
    const NameLedger::Clock::time_point start{1h};
    ledger.add("first.test", Ipv4{0}, 1s, start);
    for (std::uint32_t i = 1; i <= NameLedger::max_entries; ++i) ledger.add("a.test", Ipv4{i}, 100s, start);
    EXPECT_EQ(ledger.size(), NameLedger::max_entries);
    EXPECT_EQ(ledger.find(pattern("first.test"), start).size(), 0U);
}

TEST(NameLedger, LifetimeIsWithinReason) {
    EXPECT_EQ(NameLedger::lifetime(0s), 120s);
    EXPECT_EQ(NameLedger::lifetime(300s), 300s);
    EXPECT_EQ(NameLedger::lifetime(std::chrono::seconds{0xFFFFFFFFLL}), 24h);
}

}  // namespace
}  // namespace noid::net
