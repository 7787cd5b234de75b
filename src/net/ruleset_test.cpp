#include "net/ruleset.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace noid::net {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::Not;

std::vector<LearnedAddress> nothing(const NamePattern&) {
    return {};
}

Rule rule(Action action, Destination to, Protocol protocol = Protocol::any,
          std::vector<PortRange> ports = {}) {
    return {action, std::move(to), protocol, std::move(ports)};
}

TEST(SlotRuleset, LetsOneSourceIn) {
    const auto pool = AddressPool::create(*parse_ipv4_network("172.16.0.0/16")).value();
    const auto text =
        slot_ruleset({pool.at(5), *parse_mac("AA:FC:00:00:00:02"), blocked_networks(pool.network(), {})});
    EXPECT_THAT(text, HasSubstr("ether saddr AA:FC:00:00:00:02 ether type ip ip saddr 10.200.0.2 accept"));
    EXPECT_THAT(text, HasSubstr("dnat to 10.200.0.2"));
    EXPECT_THAT(text, HasSubstr("snat to 172.16.0.22"));
    EXPECT_THAT(text, HasSubstr("169.254.0.0/16"));
    EXPECT_THAT(text, HasSubstr("172.16.0.0/16"));
}

TEST(PolicyRuleset, OpenHasNoLastWord) {
    const auto text = policy_ruleset({}, nothing);
    EXPECT_THAT(text, Not(HasSubstr("meta mark set")));
    EXPECT_THAT(text, Not(HasSubstr("redirect")));
}

TEST(PolicyRuleset, NoneLooksAtNoRule) {
    Policy policy;
    policy.mode = Mode::none;
    policy.rules.push_back(rule(Action::allow, *parse_ipv4_network("192.0.2.0/24")));
    const auto text = policy_ruleset(policy, nothing);
    EXPECT_THAT(text, HasSubstr("meta mark set"));
    EXPECT_THAT(text, Not(HasSubstr("192.0.2.0")));
    EXPECT_THAT(text, Not(HasSubstr("established")));
}

TEST(PolicyRuleset, KeepsTheOrderOfRules) {
    Policy policy;
    policy.mode = Mode::egress;
    policy.rules.push_back(rule(Action::deny, *parse_ipv4_network("10.0.0.0/8")));
    policy.rules.push_back(
        rule(Action::allow, AnyAddress{}, Protocol::tcp, {{443, 443}, {80, 81}, {81, 90}}));
    policy.rules.push_back(rule(Action::allow, AnyAddress{}, Protocol::icmp));
    const auto text = policy_ruleset(policy, nothing);
    const auto deny = text.find("ip daddr 10.0.0.0/8 meta mark set 1 accept");
    const auto allow = text.find("meta l4proto { tcp } th dport { 80-90, 443-443 } accept");
    const auto icmp = text.find("meta l4proto icmp accept");
    const auto last = text.rfind("meta mark set 1\n");
    ASSERT_NE(icmp, std::string::npos);
    EXPECT_LT(deny, allow);
    EXPECT_LT(allow, icmp);
    EXPECT_LT(icmp, last);
    EXPECT_NE(last, std::string::npos);
}

TEST(PolicyRuleset, NamesHaveSetsOfLearnedAddresses) {
    Policy policy;
    policy.mode = Mode::egress;
    policy.rules.push_back(rule(Action::deny, AnyAddress{}, Protocol::icmp));
    policy.rules.push_back(
        rule(Action::allow, *parse_name_pattern("*.example.com"), Protocol::any, {{443, 443}}));
    const auto text = policy_ruleset(policy, [](const NamePattern& pattern) {
        EXPECT_EQ(to_string(pattern), "*.example.com");
        return std::vector<LearnedAddress>{{Ipv4{0xC0000209}, 60s}};
    });
    EXPECT_THAT(text, HasSubstr("set learned1"));
    EXPECT_THAT(text, HasSubstr("ip daddr @learned1 meta l4proto { tcp, udp } th dport { 443-443 } accept"));
    EXPECT_THAT(text, HasSubstr("redirect"));
}

TEST(HostRuleset, WithoutAnUplinkNothingIsForwarded) {
    const auto pool = *parse_ipv4_network("172.16.0.0/16");
    EXPECT_THAT(host_ruleset({pool, {}, "eth0"}), HasSubstr("oifname != \"eth0\" drop"));
    EXPECT_THAT(host_ruleset({pool, {}, ""}), Not(HasSubstr("oifname != \"\"")));
    EXPECT_THAT(remove_host_ruleset(), HasSubstr("delete table inet noid"));
}

TEST(BlockedNetworks, HoldThePoolAndWhatIsAdded) {
    const auto blocked =
        blocked_networks(*parse_ipv4_network("172.16.0.0/16"), {*parse_ipv4_network("198.51.100.1")});
    const auto is_blocked = [&](const char* address) {
        return std::any_of(blocked.begin(), blocked.end(),
                           [&](const auto& each) { return overlap(each, *parse_ipv4_network(address)); });
    };
    for (const char* closed : {"172.16.3.4", "10.200.0.1", "169.254.169.254", "127.0.0.1", "224.0.0.1",
                               "255.255.255.255", "198.51.100.1"})
        EXPECT_TRUE(is_blocked(closed)) << closed;
    EXPECT_FALSE(is_blocked("192.0.2.1"));
}

}  // namespace
}  // namespace noid::net
