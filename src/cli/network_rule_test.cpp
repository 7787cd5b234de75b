#include "cli/network_rule.hpp"

#include <gtest/gtest.h>

namespace noid::cli {
namespace {

wire::NetworkRule rule(std::string to, std::string protocol = "any", std::vector<std::string> ports = {}) {
    return {wire::NetworkRule::Action::allow, std::move(to), std::move(protocol), std::move(ports)};
}

TEST(NetworkRule, HasProtocolAndPortsWhereTheyAreSaid) {
    EXPECT_EQ(*parse_network_rule("10.0.0.0/8"), rule("10.0.0.0/8"));
    EXPECT_EQ(*parse_network_rule("*"), rule("*"));
    EXPECT_EQ(*parse_network_rule("*.debian.org:80,443"), rule("*.debian.org", "any", {"80", "443"}));
    EXPECT_EQ(*parse_network_rule("udp:192.0.2.53:53"), rule("192.0.2.53", "udp", {"53"}));
    EXPECT_EQ(*parse_network_rule("icmp:*"), rule("*", "icmp"));
    EXPECT_EQ(*parse_network_rule("example.com:8000-8100"), rule("example.com", "any", {"8000-8100"}));
    // A host may be called as a protocol is.
    EXPECT_EQ(*parse_network_rule("tcp"), rule("tcp"));
}

TEST(NetworkRule, SaysWhatIsExpected) {
    for (const auto* text : {"", ":80", "tcp:", "a:b:c", "tcp:a:1:2", "a:", "a:80,", "a:,80"}) {
        const auto parsed = parse_network_rule(text);
        ASSERT_FALSE(parsed) << text;
        EXPECT_EQ(parsed.error().code, Errc::invalid);
        EXPECT_NE(parsed.error().what.find("expected"), std::string::npos);
    }
}

}  // namespace
}  // namespace noid::cli
