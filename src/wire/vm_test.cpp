#include "wire/vm.hpp"

#include <gtest/gtest.h>

#include <boost/json/serialize.hpp>

namespace noid::wire {
namespace {

Result<CreateVm> parse(std::string_view text) {
    auto value = parse_json(text);
    if (!value) return fail(value.error());
    return CreateVm::from_json(*value);
}

TEST(CreateVm, DefaultsAreThoseOfTheOriginal) {
    const auto request = parse(R"({"name":"a","unknown":true})");
    ASSERT_TRUE(request);
    EXPECT_EQ(request->cpus, 1U);
    EXPECT_EQ(request->mem_mib, 2048U);
    EXPECT_EQ(request->network, Network::open);
    EXPECT_TRUE(request->check());
}

TEST(CreateVm, BothSpellingsOfSizes) {
    const auto request = parse(R"({"name":"a","vcpus":4,"memory":512})");
    ASSERT_TRUE(request);
    EXPECT_EQ(request->cpus, 4U);
    EXPECT_EQ(request->mem_mib, 512U);
    EXPECT_TRUE(parse(R"({"name":"a","vcpus":4,"cpus":4})"));
    EXPECT_EQ(parse(R"({"name":"a","vcpus":4,"cpus":2})").error().what,
              "fields 'cpus' and 'vcpus' contradict each other");
}

TEST(CreateVm, RefusesWrongTypes) {
    for (const char* text :
         {R"({})", R"({"name":1})", R"({"name":"a","cpus":null})", R"({"name":"a","mem_mib":"2"})",
          R"({"name":"a","cpus":-1})", R"({"name":"a","labels":[]})", R"({"name":"a","network":"x"})",
          R"({"name":"a","ports":["80"]})", R"({"name":"a","ports":["0:80"]})",
          R"({"name":"a","ports":["80:65536"]})", R"([])", R"("a")"}) {
        EXPECT_FALSE(parse(text)) << text;
    }
}

TEST(CreateVm, ChecksItsRules) {
    CreateVm request;
    request.name = "..";
    EXPECT_FALSE(request.check());
    request.name = "ok";
    EXPECT_TRUE(request.check());
    request.cpus = 0;
    EXPECT_FALSE(request.check());
    request.cpus = 1;
    request.labels[std::string(257, 'k')] = "v";
    EXPECT_FALSE(request.check());
    request.labels = {{"k", std::string(257, 'v')}};
    EXPECT_FALSE(request.check());
}

TEST(CreateVm, WhatTheClientWritesTheServerReads) {
    CreateVm request;
    request.name = "web";
    request.cpus = 2;
    request.mem_mib = 4096;
    request.disk_mib = 8192;
    request.labels = {{"team", "a"}};
    request.env = {"A=1"};
    request.image = "debian";
    request.network = Network::none;
    request.policy = NetworkPolicy{.mode = Network::egress, .download = 7};
    request.ports = {{8080, 80}};
    request.boot = true;
    request.idempotency_key = "k";
    const auto back = parse(json::serialize(to_json(request)));
    ASSERT_TRUE(back);
    EXPECT_EQ(json::serialize(to_json(*back)), json::serialize(to_json(request)));
}

TEST(VmInfo, BeginsWithTheFieldsOfTheOriginalInItsOrder) {
    VmInfo vm;
    vm.name = "a";
    vm.state = "running";
    vm.cpus = 1;
    vm.mem_mib = 2048;
    vm.created_at = "2024-01-02 03:04:05";
    const std::string text = json::serialize(to_json(vm));
    EXPECT_TRUE(text.starts_with(
        R"({"name":"a","state":"running","cpus":1,"mem_mib":2048,"created_at":"2024-01-02 03:04:05",)"))
        << text;
}

TEST(VmInfo, AnswersOfTheOriginalServerAreEnough) {
    const auto value = parse_json(R"({"name":"a","state":"dead","cpus":1,"mem_mib":2048,"created_at":"x"})");
    const auto vm = VmInfo::from_json(*value);
    ASSERT_TRUE(vm);
    EXPECT_EQ(vm->state, "dead");
    EXPECT_EQ(vm->uptime_s, std::nullopt);
}

TEST(VmInfo, RoundTrip) {
    VmInfo vm;
    vm.name = "a";
    vm.state = "dead";
    vm.created_at = "x";
    vm.labels = {{"k", "v"}};
    vm.reason = "QEMU ended";
    vm.warnings = {"no network"};
    vm.uptime_s = 4;
    vm.cpu_seconds = 1.5;
    vm.guest_os = "Debian";
    vm.traffic = NetworkTraffic{.sent_bytes = 5, .connections = 2};
    const std::string text = json::serialize(to_json(vm));
    const auto back = VmInfo::from_json(*parse_json(text));
    ASSERT_TRUE(back);
    EXPECT_EQ(json::serialize(to_json(*back)), text);
}

}  // namespace
}  // namespace noid::wire
