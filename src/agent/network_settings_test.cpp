#include "agent/network_settings.hpp"

#include <arpa/inet.h>
#include <gtest/gtest.h>

namespace noid::agent {
namespace {

proto::GuestNetwork good() {
    return {.mac = "AA:FC:00:00:00:01",
            .address = "172.16.0.2/30",
            .gateway = "172.16.0.1",
            .nameservers = {"1.1.1.1", "2606:4700::1111"},
            .mtu = 1400};
}

TEST(NetworkSettings, TakesAWholeNetwork) {
    const auto settings = parse_network(good());
    ASSERT_TRUE(settings) << settings.error().what;
    EXPECT_EQ(settings->mac, (std::array<std::uint8_t, 6>{0xAA, 0xFC, 0, 0, 0, 1}));
    EXPECT_EQ(ntohl(settings->address.s_addr), 0xAC100002U);
    EXPECT_EQ(settings->prefix_length, 30);
    EXPECT_EQ(ntohl(settings->gateway->s_addr), 0xAC100001U);
    EXPECT_EQ(settings->mtu, 1400U);
    EXPECT_EQ(settings->resolver_file, "nameserver 1.1.1.1\nnameserver 2606:4700::1111\n");
}

TEST(NetworkSettings, LeavesAloneWhatIsNotGiven) {
    auto network = good();
    network.mac.clear();
    network.gateway.clear();
    network.nameservers.clear();
    const auto settings = parse_network(network);
    ASSERT_TRUE(settings);
    EXPECT_FALSE(settings->mac);
    EXPECT_FALSE(settings->gateway);
    EXPECT_TRUE(settings->resolver_file.empty());
}

TEST(NetworkSettings, NamesTheFieldThatIsWrong) {
    const auto expect_invalid = [](auto change, std::string_view field) {
        auto network = good();
        change(network);
        const auto settings = parse_network(network);
        ASSERT_FALSE(settings) << field;
        EXPECT_EQ(settings.error().code, Errc::invalid);
        EXPECT_NE(settings.error().what.find(field), std::string::npos) << settings.error().what;
    };
    for (const char* mac : {"AA:FC:00:00:00", "AA-FC-00-00-00-01", "AA:FC:00:00:00:0G", "01:00:00:00:00:01",
                            "00:00:00:00:00:00", "AA:FC:00:00:00:01 "}) {
        expect_invalid([mac](auto& network) { network.mac = mac; }, "mac");
    }
    for (const char* address : {"", "172.16.0.2", "172.16.0.2/", "172.16.0.2/0", "172.16.0.2/33",
                                "172.16.0.2/300", "172.16.0.2/-1", "fe80::1/64", "172.16.0/24"}) {
        expect_invalid([address](auto& network) { network.address = address; }, "address");
    }
    expect_invalid([](auto& network) { network.gateway = "gateway"; }, "gateway");
    expect_invalid([](auto& network) { network.mtu = 100; }, "mtu");
    expect_invalid([](auto& network) { network.mtu = 70000; }, "mtu");
    expect_invalid([](auto& network) { network.nameservers = {"1.1.1.1\nsearch evil"}; }, "nameserver");
    expect_invalid([](auto& network) { network.nameservers.assign(4, "1.1.1.1"); }, "nameservers");
}

}  // namespace
}  // namespace noid::agent
