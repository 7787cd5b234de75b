#include "net/lease_store.hpp"

#include <gtest/gtest.h>

#include <fstream>

#include "base/temporary_directory.hpp"

namespace noid::net {
namespace {

class Leases : public testing::Test {
  protected:
    std::map<std::uint32_t, Lease> load() {
        unreadable_.clear();
        return LeaseStore::open(path_).value().load(unreadable_).value();
    }

    TemporaryDirectory directory_ = TemporaryDirectory::create().value();
    std::filesystem::path path_ = directory_.path() / "leases";
    LeaseStore store_ = LeaseStore::open(path_).value();
    std::vector<std::string> unreadable_;
};

TEST_F(Leases, AreThereAgainAfterARestart) {
    Lease lease;
    lease.vm = "0123-ab";
    lease.user = 1000;
    lease.holder = {"server", "run"};
    lease.policy.mode = Mode::egress;
    lease.policy.rules.push_back(
        {Action::allow, *parse_name_pattern("*.example.com"), Protocol::tcp, {{443, 443}}});
    ASSERT_TRUE(store_.put(7, lease));
    ASSERT_TRUE(store_.put(16383, Lease{.vm = "b", .policy = {}}));
    const auto leases = load();
    ASSERT_EQ(leases.size(), 2U);
    EXPECT_EQ(leases.at(7).vm, lease.vm);
    EXPECT_EQ(leases.at(7).user, lease.user);
    EXPECT_EQ(leases.at(7).holder, lease.holder);
    EXPECT_EQ(leases.at(7).guest_mac, inner::guest_mac);
    EXPECT_EQ(leases.at(7).policy, lease.policy);

    ASSERT_TRUE(store_.erase(7));
    ASSERT_TRUE(store_.erase(7));
    EXPECT_EQ(load().size(), 1U);
    EXPECT_TRUE(unreadable_.empty());
}

TEST_F(Leases, ThatCannotBeReadAreNone) {
    std::ofstream{path_ / "noid1.json"} << "{\"vm\":";
    std::ofstream{path_ / "noid2.json"} << R"({"vm":"a","user":0,"guest_mac":"AA:FC:00:00:00:02"})";
    std::ofstream{path_ / "eth0.json"} << "{}";
    std::ofstream{path_ / "unrelated"} << "";
    EXPECT_TRUE(load().empty());
    std::sort(unreadable_.begin(), unreadable_.end());
    EXPECT_EQ(unreadable_, (std::vector<std::string>{"eth0.json", "noid1.json", "noid2.json"}));
}

TEST_F(Leases, AreForTheirOwnerOnly) {
    EXPECT_EQ(std::filesystem::status(path_).permissions(), std::filesystem::perms::owner_all);
}

}  // namespace
}  // namespace noid::net
