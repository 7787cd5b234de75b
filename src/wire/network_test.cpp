#include "wire/network.hpp"

#include <gtest/gtest.h>

#include <boost/json/serialize.hpp>

namespace noid::wire {
namespace {

json::value value_of(std::string_view text) {
    auto value = parse_json(text);
    EXPECT_TRUE(value.has_value()) << text;
    return value ? std::move(*value) : json::value{};
}

TEST(NetworkPolicy, SurvivesItsOwnText) {
    NetworkPolicy policy;
    policy.mode = Network::egress;
    policy.rules.push_back({NetworkRule::Action::allow, "*.debian.org", "tcp", {"80", "443"}});
    policy.rules.push_back({NetworkRule::Action::deny, "10.0.0.0/8", "any", {}});
    policy.upload = 1'000'000;
    const auto text = json::serialize(to_json(policy));
    EXPECT_EQ(text,
              R"({"mode":"egress","rules":[{"action":"allow","to":"*.debian.org","protocol":"tcp",)"
              R"("ports":["80","443"]},{"action":"deny","to":"10.0.0.0/8"}],"upload":1000000,"download":0})");
    const auto read = NetworkPolicy::from_json(value_of(text));
    ASSERT_TRUE(read.has_value());
    EXPECT_EQ(*read, policy);
}

TEST(NetworkPolicy, RefusesWhatItDoesNotKnow) {
    for (const std::string_view text :
         {R"({"mode":"closed"})", R"({"modes":"none"})", R"({"rules":[{"action":"allow"}]})",
          R"({"rules":[{"action":"permit","to":"*"}]})", R"({"rules":[{"action":"deny","too":"*"}]})",
          R"({"rules":[{"action":"deny","to":"*","protocol":"sctp"}]})", R"({"upload":-1})", R"([])"}) {
        const auto read = NetworkPolicy::from_json(value_of(text));
        ASSERT_FALSE(read.has_value()) << text;
        EXPECT_EQ(read.error().code, Errc::invalid) << text;
    }
}

TEST(NetworkPolicy, HasDefaultsForAllMembers) {
    const auto read = NetworkPolicy::from_json(value_of("{}"));
    ASSERT_TRUE(read.has_value());
    EXPECT_EQ(*read, NetworkPolicy{});
}

TEST(Ports, AreFromOneTo65535) {
    EXPECT_FALSE(ExposePort::from_json(value_of(R"({"guest":0})")));
    EXPECT_FALSE(ExposePort::from_json(value_of(R"({"guest":65536})")));
    EXPECT_FALSE(ExposePort::from_json(value_of(R"({"guest":80,"host":0})")));
    const auto request = ExposePort::from_json(value_of(R"({"guest":80,"host":8080,"public":true})"));
    ASSERT_TRUE(request.has_value());
    EXPECT_EQ(json::serialize(to_json(*request)), R"({"guest":80,"host":8080,"public":true})");
    const auto port = ExposedPort::from_json(value_of(R"({"guest":80,"host":8080,"url":null})"));
    ASSERT_TRUE(port.has_value());
    EXPECT_EQ(json::serialize(to_json(*port)), R"({"guest":80,"host":8080,"url":null,"public":false})");
}

}  // namespace
}  // namespace noid::wire
