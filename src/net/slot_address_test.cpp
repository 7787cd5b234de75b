#include "net/slot_address.hpp"

#include <gtest/gtest.h>

#include <set>

namespace noid::net {
namespace {

Ipv4Network network(std::string_view text) {
    return parse_ipv4_network(text).value();
}

TEST(Ipv4NetworkText, IsANetworkOrOneAddress) {
    EXPECT_EQ(network("10.0.0.0/8").to_string(), "10.0.0.0/8");
    EXPECT_EQ(network("192.0.2.7").to_string(), "192.0.2.7/32");
    EXPECT_EQ(network("0.0.0.0/0").prefix_length(), 0);
    for (const char* bad : {"", "/", "10.0.0.0/", "10.0.0.0/33", "10.0.0.1/8", "10.0.0/8", "::1", "a.example",
                            "10.0.0.0/8 ", " 10.0.0.0/8", "10.0.0.0/-1"})
        EXPECT_FALSE(parse_ipv4_network(bad)) << bad;
}

TEST(Ipv4NetworkText, OverlapIsSymmetric) {
    const auto check = [](const char* a, const char* b, bool expected) {
        EXPECT_EQ(overlap(network(a), network(b)), expected) << a << " " << b;
        EXPECT_EQ(overlap(network(b), network(a)), expected) << b << " " << a;
    };
    check("10.0.0.0/8", "10.200.0.0/30", true);
    check("10.0.0.0/8", "11.0.0.0/8", false);
    check("172.16.0.0/16", "172.17.0.0/16", false);
    check("0.0.0.0/0", "192.0.2.1", true);
}

TEST(MacText, IsSixPairsOfOneMachine) {
    EXPECT_EQ(to_string(parse_mac("aa:fc:00:00:0f:Fe").value()), "AA:FC:00:00:0F:FE");
    for (const char* bad :
         {"", "AA:FC:00:00:00", "AA:FC:00:00:00:0", "AA-FC-00-00-00-01", "AA:FC:00:00:00:0G",
          "AA:FC:00:00:00:011", "00:00:00:00:00:00", "01:00:5E:00:00:01", "FF:FF:FF:FF:FF:FF",
          "+A:FC:00:00:00:01", "AA:FC:00:00:00:01 "})
        EXPECT_FALSE(parse_mac(bad)) << bad;
}

TEST(SlotName, HasOneSpellingPerIndex) {
    EXPECT_EQ(parse_slot_name("noid0"), 0U);
    EXPECT_EQ(parse_slot_name("noid16383"), 16383U);
    for (const char* bad : {"", "noid", "noid-1", "noid+1", "noid03", "noid00", "noid16384", "noid3x",
                            "noid 3", "Noid3", "xnoid3", "noid99999999999999999999"})
        EXPECT_FALSE(parse_slot_name(bad)) << bad;
    const auto pool = AddressPool::create(network("172.16.0.0/16")).value();
    for (const std::uint32_t index : {0U, 9U, 10U, 4711U, 16383U})
        EXPECT_EQ(parse_slot_name(pool.at(index).name), index);
}

TEST(AddressPool, GivesEveryIndexFourAddressesOfItsOwn) {
    const auto pool = AddressPool::create(network("172.16.0.0/16")).value();
    ASSERT_EQ(pool.size(), max_slots);
    std::set<std::uint32_t> taken;
    std::set<std::string> macs;
    for (std::uint32_t index = 0; index < pool.size(); ++index) {
        const auto slot = pool.at(index);
        EXPECT_EQ(slot.index, index);
        ASSERT_EQ(slot.host.to_uint() & 3U, 1U);
        ASSERT_EQ(slot.guest.to_uint(), slot.host.to_uint() + 1);
        ASSERT_TRUE(overlap(pool.network(), Ipv4Network{slot.guest, 32}));
        taken.insert(slot.host.to_uint() >> 2);
        macs.insert(to_string(slot.plain_mac));
    }
    EXPECT_EQ(taken.size(), max_slots);
    EXPECT_EQ(macs.size(), max_slots);
}

// Clients of the first netd work these out for themselves.
TEST(AddressPool, KeepsTheAddressesThatOldClientsExpect) {
    const auto pool = AddressPool::create(network("172.16.0.0/16")).value();
    const auto slot = pool.at(300);
    EXPECT_EQ(slot.name, "noid300");
    EXPECT_EQ(slot.host.to_string(), "172.16.4.177");
    EXPECT_EQ(slot.guest.to_string(), "172.16.4.178");
    EXPECT_EQ(to_string(slot.plain_mac), "AA:FC:00:00:01:2C");
    EXPECT_EQ(pool.at(16383).guest.to_string(), "172.16.255.254");
}

TEST(AddressPool, RefusesWhatCannotHoldSlots) {
    EXPECT_EQ(AddressPool::create(network("192.0.2.0/30")).value().size(), 1U);
    for (const char* bad : {"172.16.0.0/15", "172.0.0.0/8", "192.0.2.0/31", "192.0.2.1"})
        EXPECT_EQ(AddressPool::create(network(bad)).error().code, Errc::invalid) << bad;
    // What every guest sees inside must stay unlike what is outside.
    EXPECT_NE(AddressPool::create(network("10.200.0.0/24")).error().what.find(inner::network),
              std::string::npos);
}

}  // namespace
}  // namespace noid::net
