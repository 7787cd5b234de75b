#include "api/metrics.hpp"

#include <gtest/gtest.h>

namespace noid::api {
namespace {

vm::VmNetworkNumbers of(std::string user, std::string vm, std::uint64_t sent) {
    vm::VmNetworkNumbers numbers;
    numbers.user = std::move(user);
    numbers.vm = std::move(vm);
    numbers.numbers.sent = {sent, 1};
    numbers.numbers.forged = {60, 2};
    numbers.numbers.isolated = {60, 3};
    numbers.numbers.connections = 4;
    return numbers;
}

bool has_line(const std::string& page, const std::string& line) {
    return ("\n" + page).find("\n" + line + "\n") != std::string::npos;
}

TEST(Metrics, EachVmsNetworkIsShownToWhomItBelongs) {
    Metrics metrics;
    vm::EngineNumbers numbers;
    EXPECT_EQ(metrics.page(numbers, nullptr).find("network"), std::string::npos) << "there is none";
    numbers.networks = {of("ann", "web", 100), of("bob", "db", 7)};
    numbers.network.emplace();
    for (const auto& each : numbers.networks) *numbers.network += each.numbers;

    const std::string all = metrics.page(numbers, nullptr);
    EXPECT_TRUE(has_line(all, R"(noid_vm_network_sent_bytes{user="ann",vm="web"} 100)"));
    EXPECT_TRUE(has_line(all, R"(noid_vm_network_sent_bytes{user="bob",vm="db"} 7)"));
    EXPECT_TRUE(has_line(all, R"(noid_vm_network_dropped_packets{user="bob",vm="db"} 5)"));
    EXPECT_TRUE(has_line(all, R"(noid_vm_network_connections{user="bob",vm="db"} 4)"));
    EXPECT_TRUE(has_line(all, "noid_network_sent_bytes 107"));

    const std::string ann = "ann";
    const std::string hers = metrics.page(numbers, &ann);
    EXPECT_TRUE(has_line(hers, R"(noid_vm_network_sent_bytes{user="ann",vm="web"} 100)"));
    EXPECT_EQ(hers.find("bob"), std::string::npos);
    EXPECT_TRUE(has_line(hers, "noid_vm_network_unnamed 0"));
}

TEST(Metrics, NoMoreVmsAreNamedThanAPageShouldHave) {
    Metrics metrics;
    vm::EngineNumbers numbers;
    numbers.network.emplace();
    for (std::size_t i = 0; i < Metrics::most_vms_named + 3; ++i)
        numbers.networks.push_back(of("a\"b\\", "vm" + std::to_string(i), 1));
    const std::string page = metrics.page(numbers, nullptr);
    EXPECT_TRUE(has_line(page, "noid_vm_network_unnamed 3"));
    EXPECT_TRUE(has_line(page, R"(noid_vm_network_sent_bytes{user="a\"b\\",vm="vm999"} 1)"));
    EXPECT_EQ(page.find("vm1000"), std::string::npos);
}

}  // namespace
}  // namespace noid::api
