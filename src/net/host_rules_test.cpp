#include "net/host_rules.hpp"

#include <gtest/gtest.h>

namespace noid::net {
namespace {

TEST(IptablesListing, GivesTheRulesOfOneMark) {
    const auto rules =
        marked_rules("nat", "POSTROUTING",
                     "-P POSTROUTING ACCEPT\n"
                     "-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE\n"
                     "-A POSTROUTING -s 172.16.0.0/16 -o eth0 -m comment --comment mine -j MASQUERADE\n"
                     "-A POSTROUTING -o eth1 -m comment --comment mine-not -j ACCEPT\n"
                     "-A OTHER -o eth1 -m comment --comment mine -j ACCEPT",
                     "mine");
    ASSERT_EQ(rules.size(), 1U);
    EXPECT_EQ(rules[0].match_and_target, "-s 172.16.0.0/16 -o eth0 -m comment --comment mine -j MASQUERADE");
    EXPECT_TRUE(marked_rules("nat", "POSTROUTING", "", "mine").empty());
}

TEST(IptablesListing, WordsAreSplitAtSpaces) {
    EXPECT_EQ(words_of("-i noid+  -j ACCEPT"), (std::vector<std::string>{"-i", "noid+", "-j", "ACCEPT"}));
    EXPECT_TRUE(words_of("").empty());
}

TEST(WantedIptablesRules, AreThoseThatTheOriginalMade) {
    const HostRuleset host{*parse_ipv4_network("172.16.0.0/16"), {}, "eth0"};
    const auto rules = wanted_iptables_rules(host);
    ASSERT_EQ(rules.size(), 5U);
    EXPECT_EQ(rules[0].match_and_target,
              "-s 172.16.0.0/16 -o eth0 -m comment --comment noid-netd -j MASQUERADE");
    EXPECT_EQ(rules[1].match_and_target, "-i noid+ -o eth0 -m comment --comment noid-netd -j ACCEPT");
}

TEST(WantedIptablesRules, AreNoneWithoutAnUplink) {
    EXPECT_TRUE(wanted_iptables_rules({*parse_ipv4_network("172.16.0.0/16"), {}, ""}).empty());
}

}  // namespace
}  // namespace noid::net
