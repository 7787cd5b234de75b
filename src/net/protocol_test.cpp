#include "net/protocol.hpp"

#include <gtest/gtest.h>

namespace noid::net {
namespace {

template <class T>
T parse(std::string_view line) {
    auto request = parse_request(line);
    EXPECT_TRUE(request) << line << ": " << request.error().what;
    return std::get<T>(*request);
}

std::string refusal(std::string_view line) {
    const auto request = parse_request(line);
    EXPECT_FALSE(request) << line;
    return request ? "" : request.error().what;
}

TEST(Request, OldOperationsAreAsTheyWere) {
    EXPECT_EQ(parse<SetupRequest>(R"({"op":"setup","index":7})").index, 7U);
    EXPECT_EQ(parse<TeardownRequest>(R"({"op":"teardown","tap_name":"noid7"})").tap_name, "noid7");
    parse<StatusRequest>(R"({"op":"status","index":null,"tap_name":null})");
    EXPECT_EQ(refusal(R"({"op":"setup"})"), "setup requires 'index' field");
    EXPECT_EQ(refusal(R"({"op":"teardown"})"), "teardown requires 'tap_name' field");
    EXPECT_EQ(refusal(R"({"op":"teardown","tap_name":"eth0"})"),
              "invalid tap_name 'eth0': must start with 'noid'");
    EXPECT_EQ(refusal(R"({"op":"restart"})"), "unknown op: restart");
    EXPECT_TRUE(refusal("hello").starts_with("invalid request: "));
    EXPECT_TRUE(refusal("[]").starts_with("invalid request: "));
    EXPECT_TRUE(refusal(R"({"op":1})").starts_with("invalid request: "));
    EXPECT_TRUE(refusal(R"({"op":"setup","index":-1})").starts_with("invalid request: "));
    EXPECT_TRUE(refusal(R"({"op":"setup","index":4294967296})").starts_with("invalid request: "));
}

TEST(Request, WrittenAndReadAgainIsTheSame) {
    AcquireRequest acquire{.vm = "0a-b/c", .guest_mac = {}, .policy = {}};
    acquire.guest_mac = parse_mac("AA:FC:00:00:00:07");
    acquire.policy.mode = Mode::egress;
    acquire.policy.rules.push_back(
        {Action::allow, *parse_name_pattern("*.example.com"), Protocol::tcp, {{80, 90}}});
    const auto again = parse<AcquireRequest>(to_line(acquire));
    EXPECT_EQ(again.vm, acquire.vm);
    EXPECT_EQ(again.guest_mac, acquire.guest_mac);
    EXPECT_EQ(again.policy, acquire.policy);
    EXPECT_EQ(parse<ReleaseRequest>(to_line(ReleaseRequest{"v"})).vm, "v");
    EXPECT_FALSE(parse<PolicyRequest>(to_line(PolicyRequest{"v", {}})).policy);
    EXPECT_EQ(parse<PolicyRequest>(to_line(PolicyRequest{"v", acquire.policy})).policy, acquire.policy);
    EXPECT_FALSE(parse<StatsRequest>(to_line(StatsRequest{})).vm);
    const auto retain = parse<RetainRequest>(to_line(RetainRequest{{"server", "run"}, {"a", "b"}}));
    EXPECT_EQ(retain.vms.size(), 2U);
    EXPECT_EQ(retain.holder, (Holder{"server", "run"}));
    EXPECT_EQ(parse<SleepRequest>(to_line(SleepRequest{"v"})).vm, "v");
    EXPECT_EQ(parse<AwakeRequest>(to_line(AwakeRequest{"v"})).vm, "v");
    const auto watch = parse<WatchRequest>(to_line(WatchRequest{{"server", "run"}, {"a", "b"}}));
    EXPECT_EQ(watch.asleep, (std::vector<std::string>{"a", "b"}));
    EXPECT_EQ(watch.holder, (Holder{"server", "run"}));
    EXPECT_NE(refusal(R"({"op":"watch","asleep":[]})").find("server"), std::string::npos);
    parse<DoctorRequest>(to_line(DoctorRequest{}));
}

TEST(Request, FieldsAreBounded) {
    const auto acquire = [](const std::string& vm) { return R"({"op":"acquire","vm":")" + vm + "\"}"; };
    parse<AcquireRequest>(acquire(std::string(max_vm_id_bytes, 'a')));
    for (const auto& bad : {std::string{}, std::string(max_vm_id_bytes + 1, 'a'), std::string{"a b"},
                            std::string{"a\\n"}, std::string{"ü"}})
        EXPECT_NE(refusal(acquire(bad)), "");
    refusal(R"({"op":"acquire","vm":"a","guest_mac":"FF:FF:FF:FF:FF:FF"})");
    EXPECT_NE(refusal(R"({"op":"acquire","vm":"a","policy":{"mode":"opne"}})").find("policy"),
              std::string::npos);
    refusal(std::string(100, '['));
}

TEST(Reply, OldShapesAreByteForByte) {
    const SetupReply made{"noid0", Ipv4{0xAC100001}, Ipv4{0xAC100002}, "AA:FC:00:00:00:00"};
    EXPECT_EQ(setup_reply(made),
              R"({"ok":true,"tap_name":"noid0","host_ip":"172.16.0.1","guest_ip":"172.16.0.2",)"
              R"("guest_mac":"AA:FC:00:00:00:00"})");
    EXPECT_EQ(done_reply(), R"({"ok":true})");
    EXPECT_EQ(status_reply({"noid0", "noid1"}), R"({"ok":true,"active":["noid0","noid1"]})");
    EXPECT_EQ(status_reply({}), R"({"ok":true,"active":[]})");
    EXPECT_EQ(error_reply(Error{Errc::invalid, "unknown op: x", {}}, ErrorShape::plain),
              R"({"ok":false,"error":"unknown op: x"})");
}

TEST(Reply, SlotWrittenAndReadAgainIsTheSame) {
    SlotDescription slot;
    slot.index = 3;
    slot.netns = "/run/netns/noid3";
    slot.tap = "tap0";
    slot.host_ip = Ipv4{0xAC10000D};
    slot.guest_ip = Ipv4{0xAC10000E};
    slot.guest_mac = "AA:FC:00:00:00:02";
    slot.address = "10.200.0.2/30";
    slot.gateway = "10.200.0.1";
    slot.nameservers = {"10.200.0.1"};
    slot.mtu = 1400;
    const auto again = parse_slot_reply(slot_reply(slot)).value();
    EXPECT_EQ(again.index, slot.index);
    EXPECT_EQ(again.netns, slot.netns);
    EXPECT_EQ(again.tap, slot.tap);
    EXPECT_EQ(again.host_ip, slot.host_ip);
    EXPECT_EQ(again.guest_ip, slot.guest_ip);
    EXPECT_EQ(again.guest_mac, slot.guest_mac);
    EXPECT_EQ(again.address, slot.address);
    EXPECT_EQ(again.gateway, slot.gateway);
    EXPECT_EQ(again.nameservers, slot.nameservers);
    EXPECT_EQ(again.mtu, slot.mtu);
}

TEST(Reply, OthersWrittenAndReadAgainAreTheSame) {
    EXPECT_TRUE(parse_release_reply(release_reply(true)).value());
    EXPECT_FALSE(parse_release_reply(release_reply(false)).value());
    Policy policy;
    policy.download = 5000;
    EXPECT_EQ(parse_policy_reply(policy_reply(policy)).value(), policy);
    EXPECT_EQ(parse_retain_reply(retain_reply({"a"})).value(), std::vector<std::string>{"a"});

    VmStats stats;
    stats.vm = "a";
    stats.index = 9;
    stats.mode = Mode::egress;
    stats.sent = {1, 2};
    stats.received = {3, 4};
    stats.forged = {5, 6};
    stats.isolated = {7, 8};
    stats.denied = {9, 10};
    stats.connections = 11;
    const auto again = parse_stats_reply(stats_reply({stats})).value();
    ASSERT_EQ(again.size(), 1U);
    EXPECT_EQ(again[0].vm, "a");
    EXPECT_EQ(again[0].index, 9U);
    EXPECT_EQ(again[0].mode, Mode::egress);
    EXPECT_EQ(again[0].sent, stats.sent);
    EXPECT_EQ(again[0].received, stats.received);
    EXPECT_EQ(again[0].forged, stats.forged);
    EXPECT_EQ(again[0].isolated, stats.isolated);
    EXPECT_EQ(again[0].denied, stats.denied);
    EXPECT_EQ(again[0].connections, 11U);

    const auto findings =
        parse_doctor_reply(doctor_reply({{"tun", Verdict::warning, "odd", "mend it"}})).value();
    ASSERT_EQ(findings.size(), 1U);
    EXPECT_EQ(findings[0].subject, "tun");
    EXPECT_EQ(findings[0].verdict, Verdict::warning);
    EXPECT_EQ(findings[0].advice, "mend it");
}

TEST(Reply, AnErrorBecomesThatError) {
    const auto line =
        error_reply(Error{Errc::limit_exceeded, "all slots are in use", {}}, ErrorShape::with_code);
    const auto slot = parse_slot_reply(line);
    ASSERT_FALSE(slot);
    EXPECT_EQ(slot.error().code, Errc::limit_exceeded);
    EXPECT_EQ(slot.error().what, "all slots are in use");
    EXPECT_EQ(parse_release_reply(R"({"ok":false,"error":"x"})").error().code, Errc::invalid);
}

TEST(Reply, WhatDoesNotFitIsCorrupt) {
    for (const char* bad :
         {"", "x", "[]", "{}", R"({"ok":true})", R"({"ok":true,"index":"1"})", R"({"ok":true,"released":1})",
          R"({"ok":true,"vms":1,"policy":1,"findings":1})", R"({"ok":true,"vms":[{}],"findings":[{}]})"}) {
        EXPECT_EQ(parse_slot_reply(bad).error().code, Errc::corrupt) << bad;
        EXPECT_EQ(parse_release_reply(bad).error().code, Errc::corrupt) << bad;
        EXPECT_EQ(parse_policy_reply(bad).error().code, Errc::corrupt) << bad;
        EXPECT_EQ(parse_stats_reply(bad).error().code, Errc::corrupt) << bad;
        EXPECT_EQ(parse_retain_reply(bad).error().code, Errc::corrupt) << bad;
        EXPECT_EQ(parse_doctor_reply(bad).error().code, Errc::corrupt) << bad;
    }
}

}  // namespace
}  // namespace noid::net
