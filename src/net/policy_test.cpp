#include "net/policy.hpp"

#include <gtest/gtest.h>
#include <netinet/in.h>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

namespace noid::net {
namespace {

Result<Policy> read(std::string_view text) {
    return Policy::from_json(boost::json::parse(text));
}

Flow tcp(const char* address, std::uint16_t port) {
    return {boost::asio::ip::make_address_v4(address), IPPROTO_TCP, port};
}
Flow udp(const char* address, std::uint16_t port) {
    return {boost::asio::ip::make_address_v4(address), IPPROTO_UDP, port};
}

bool nothing(const NamePattern&, Ipv4) {
    return false;
}

TEST(NamePattern, MatchesWholeLabels) {
    const auto exact = parse_name_pattern("Example.COM.").value();
    EXPECT_EQ(to_string(exact), "example.com");
    EXPECT_TRUE(exact.matches("example.com"));
    EXPECT_FALSE(exact.matches("www.example.com"));
    const auto below = parse_name_pattern("*.example.com").value();
    EXPECT_TRUE(below.matches("a.b.example.com"));
    EXPECT_FALSE(below.matches("example.com"));
    EXPECT_FALSE(below.matches("badexample.com"));
    EXPECT_FALSE(below.matches(".example.com"));
}

TEST(NamePattern, RefusesWhatIsNoHostName) {
    for (const auto& bad : {std::string{}, std::string{"*."}, std::string{"*.*.com"}, std::string{"a..b"},
                            std::string{"-a.com"}, std::string{"a-.com"}, std::string{"a b.com"},
                            std::string{"10.0.0"}, std::string{"10.0.0.300"}, std::string{"a.com/24"},
                            std::string{"é.com"}, std::string(64, 'a') + ".com", std::string(254, 'a')})
        EXPECT_FALSE(parse_name_pattern(bad)) << bad;
}

TEST(PolicyJson, DefaultsToOpen) {
    const auto policy = read("{}").value();
    EXPECT_EQ(policy, Policy{});
    EXPECT_EQ(policy.decide(tcp("192.0.2.1", 80), nothing), Action::allow);
}

TEST(PolicyJson, KeepsEverythingItSays) {
    const auto policy = read(R"({"mode":"egress","upload":1000000,"rules":[
        {"action":"deny","to":"10.0.0.0/8"},
        {"action":"allow","to":"*.debian.org","protocol":"tcp","ports":["80","8000-8100"]},
        {"action":"allow","to":"*","protocol":"icmp"},
        {"action":"allow","to":"192.0.2.7","protocol":"udp","ports":["53"]}]})");
    ASSERT_TRUE(policy) << policy.error().what;
    EXPECT_EQ(policy->rules.size(), 4U);
    EXPECT_EQ(Policy::from_json(policy->to_json()).value(), *policy);
    EXPECT_EQ(Policy::from_json(boost::json::parse(boost::json::serialize(policy->to_json()))).value(),
              *policy);
}

TEST(PolicyJson, RefusesWhatItDoesNotUnderstand) {
    for (const char* bad : {
             R"([])",
             R"({"mode":"closed"})",
             R"({"mode":1})",
             R"({"rule":[]})",
             R"({"rules":{}})",
             R"({"rules":[{"to":"10.0.0.0/8"}]})",
             R"({"rules":[{"action":"permit"}]})",
             R"({"rules":[{"action":"deny","to":"10.0.0.1/8"}]})",
             R"({"rules":[{"action":"deny","to":"not a host"}]})",
             R"({"rules":[{"action":"deny","port":["1"]}]})",
             R"({"rules":[{"action":"deny","ports":["0"]}]})",
             R"({"rules":[{"action":"deny","ports":["65536"]}]})",
             R"({"rules":[{"action":"deny","ports":["9-1"]}]})",
             R"({"rules":[{"action":"deny","ports":["1-"]}]})",
             R"({"rules":[{"action":"deny","ports":[1]}]})",
             R"({"rules":[{"action":"deny","protocol":"sctp"}]})",
             R"({"rules":[{"action":"deny","protocol":"icmp","ports":["1"]}]})",
             R"({"upload":10})",
             R"({"upload":-1})",
             R"({"download":5000000000})",
         }) {
        const auto policy = read(bad);
        ASSERT_FALSE(policy) << bad;
        EXPECT_EQ(policy.error().code, Errc::invalid) << bad;
    }
}

TEST(PolicyJson, IsBounded) {
    boost::json::array rules;
    for (std::size_t i = 0; i <= max_rules; ++i)
        rules.push_back(boost::json::object{{"action", "deny"}, {"to", "192.0.2.1"}});
    EXPECT_EQ(Policy::from_json(boost::json::object{{"rules", rules}}).error().code, Errc::too_large);
    boost::json::array ports;
    for (std::size_t i = 0; i <= max_port_ranges; ++i) ports.emplace_back("1");
    const boost::json::object rule{{"action", "deny"}, {"ports", ports}};
    EXPECT_EQ(Policy::from_json(boost::json::object{{"rules", boost::json::array{rule}}}).error().code,
              Errc::too_large);
}

TEST(PolicyDecision, TakesTheFirstRuleThatMatches) {
    const auto policy = read(R"({"mode":"open","rules":[
        {"action":"allow","to":"10.1.0.0/16","ports":["443"]},
        {"action":"deny","to":"10.0.0.0/8"}]})")
                            .value();
    EXPECT_EQ(policy.decide(tcp("10.1.2.3", 443), nothing), Action::allow);
    EXPECT_EQ(policy.decide(udp("10.1.2.3", 443), nothing), Action::allow);
    EXPECT_EQ(policy.decide(tcp("10.1.2.3", 80), nothing), Action::deny);
    EXPECT_EQ(policy.decide(tcp("11.0.0.1", 80), nothing), Action::allow);
    EXPECT_EQ(policy.decide({boost::asio::ip::make_address_v4("10.1.2.3"), IPPROTO_ICMP, 0}, nothing),
              Action::deny);
}

TEST(PolicyDecision, OfANameIsThatOfItsAddresses) {
    const auto policy =
        read(R"({"mode":"egress","rules":[{"action":"allow","to":"*.example.com","protocol":"tcp"}]})")
            .value();
    const auto learned = [](const NamePattern& pattern, Ipv4 address) {
        return pattern.name == "example.com" && address.to_string() == "192.0.2.1";
    };
    EXPECT_TRUE(policy.uses_names());
    EXPECT_EQ(policy.decide(tcp("192.0.2.1", 443), learned), Action::allow);
    EXPECT_EQ(policy.decide(udp("192.0.2.1", 443), learned), Action::deny);
    EXPECT_EQ(policy.decide(tcp("192.0.2.2", 443), learned), Action::deny);
    // A resolver that netd does not hear would make names mean anything.
    EXPECT_EQ(policy.decide(udp("192.0.2.1", 53), learned), Action::deny);
}

TEST(PolicyDecision, NoneAllowsNothing) {
    const auto policy = read(R"({"mode":"none","rules":[{"action":"allow","to":"*"}]})").value();
    EXPECT_EQ(policy.decide(tcp("192.0.2.1", 80), nothing), Action::deny);
    EXPECT_EQ(policy.decide_name("example.com"), Action::deny);
    EXPECT_FALSE(policy.uses_names());
}

TEST(PolicyNames, CarryNoDataOutToWhereNothingMayGo) {
    const auto egress =
        read(R"({"mode":"egress","rules":[{"action":"allow","to":"*.example.com"}]})").value();
    EXPECT_EQ(egress.decide_name("www.example.com"), Action::allow);
    EXPECT_EQ(egress.decide_name("c2VjcmV0.evil.test"), Action::deny);
    const auto open = read(R"({"rules":[{"action":"deny","to":"ads.test"},
                                        {"action":"deny","to":"half.test","ports":["80"]}]})")
                          .value();
    EXPECT_EQ(open.decide_name("ads.test"), Action::deny);
    EXPECT_EQ(open.decide_name("half.test"), Action::allow);
    EXPECT_EQ(open.decide_name("other.test"), Action::allow);
    const auto any =
        read(R"({"mode":"egress","rules":[{"action":"allow","to":"*","ports":["443"]}]})").value();
    EXPECT_EQ(any.decide_name("other.test"), Action::allow);
}

}  // namespace
}  // namespace noid::net
