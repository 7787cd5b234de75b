#include "agent/network.hpp"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <sched.h>

#include <array>
#include <thread>

#include "agent/routing_socket.hpp"

namespace noid::agent {
namespace {

// Runs `check` in a network namespace of its own, which ends with the thread.
template <class Check>
void in_own_namespace(Check check) {
    bool is_allowed = true;
    std::thread{[&] {
        is_allowed = ::unshare(CLONE_NEWNET) == 0;
        if (is_allowed) check();
    }}.join();
    if (!is_allowed) GTEST_SKIP() << "needs root, for a network namespace";
}

int addresses_of_loopback() {
    int count = 0;
    ifaddrmsg header{};
    header.ifa_family = AF_INET;
    auto routing = RoutingSocket::open();
    EXPECT_TRUE(routing);
    const auto listed = routing->list({RTM_GETADDR, NLM_F_DUMP, header}, [&](const RoutingEntry& entry) {
        const auto address = entry.attribute<in_addr, ifaddrmsg>(IFA_LOCAL);
        if (address && ntohl(address->s_addr) == INADDR_LOOPBACK) ++count;
    });
    EXPECT_TRUE(listed);
    return count;
}

TEST(Network, BringsLoopbackUp) {
    in_own_namespace([] {
        EXPECT_EQ(addresses_of_loopback(), 0);
        EXPECT_TRUE(bring_up_loopback());
        EXPECT_EQ(addresses_of_loopback(), 1);
        EXPECT_TRUE(bring_up_loopback());
    });
}

TEST(RoutingSocket, TellsWhyTheKernelRefuses) {
    in_own_namespace([] {
        auto routing = RoutingSocket::open();
        ASSERT_TRUE(routing);
        ifinfomsg header{};
        header.ifi_index = 4711;
        header.ifi_change = IFF_UP;
        const auto changed = routing->change({RTM_NEWLINK, NLM_F_ACK, header}, "set up eth7");
        ASSERT_FALSE(changed);
        EXPECT_EQ(changed.error().cause, std::errc::no_such_device);
        EXPECT_TRUE(changed.error().what.starts_with("set up eth7: ")) << changed.error().what;
    });
}

TEST(RoutingEntry, SurvivesAttributesThatDoNotHold) {
    struct {
        ifaddrmsg header{};
        rtattr attribute{};
    } entry;
    const auto bytes = std::as_bytes(std::span{&entry, 1});
    for (const std::uint16_t length : std::to_array<std::uint16_t>({0, 1, 4, 8, 65535})) {
        entry.attribute = {.rta_len = length, .rta_type = IFA_LOCAL};
        EXPECT_FALSE((RoutingEntry{bytes}.attribute<in_addr, ifaddrmsg>(IFA_LOCAL))) << length;
    }
    EXPECT_FALSE(RoutingEntry{bytes.first(4)}.header<ifaddrmsg>());
    EXPECT_FALSE((RoutingEntry{bytes.first(4)}.attribute<in_addr, ifaddrmsg>(IFA_LOCAL)));
}

}  // namespace
}  // namespace noid::agent
