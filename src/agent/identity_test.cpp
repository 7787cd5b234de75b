#include "agent/identity.hpp"

#include <gtest/gtest.h>

namespace noid::agent {
namespace {

TEST(Hosts, NamesTheHostInThePlaceOfTheNameBefore) {
    EXPECT_EQ(hosts_with("127.0.0.1\tlocalhost\n127.0.1.1 old old.example\n::1 ip6-localhost\n", "new"),
              "127.0.0.1\tlocalhost\n127.0.1.1\tnew\n::1 ip6-localhost\n");
}

TEST(Hosts, AppendsTheNameWhereThereWasNone) {
    EXPECT_EQ(hosts_with("127.0.0.1 localhost", "vm"), "127.0.0.1 localhost\n127.0.1.1\tvm\n");
    EXPECT_EQ(hosts_with("", "vm"), "127.0.1.1\tvm\n");
}

TEST(Hosts, LeavesCommentsAndSimilarAddressesAlone) {
    const std::string others = "# 127.0.1.1 comment\n127.0.1.10 other\n  \n";
    EXPECT_EQ(hosts_with(others, "vm"), others + "127.0.1.1\tvm\n");
}

TEST(Hosts, KeepsOneLineForTheName) {
    EXPECT_EQ(hosts_with("  127.0.1.1\ta\n127.0.1.1 b\n", "vm"), "127.0.1.1\tvm\n");
}

TEST(Hosts, GivesAQualifiedNameItsFirstPart) {
    EXPECT_EQ(hosts_with("", "vm.example.org"), "127.0.1.1\tvm.example.org vm\n");
}

TEST(Hostname, AllowsTheNamesOfMachinesAndNothingElse) {
    for (const char* good : {"a", "my-vm", "my_vm", "vm.example.org", "0"})
        EXPECT_TRUE(is_hostname(good)) << good;
    for (const char* bad : {"", "-a", "a-", ".a", "a.", "a b", "a\nb", "a/b", "\xc3\xa4"}) {
        EXPECT_FALSE(is_hostname(bad)) << bad;
    }
    EXPECT_TRUE(is_hostname(std::string(64, 'a')));
    EXPECT_FALSE(is_hostname(std::string(65, 'a')));
}

TEST(MachineId, IsThirtyTwoLowerCaseDigits) {
    EXPECT_TRUE(is_machine_id("0123456789abcdef0123456789abcdef"));
    EXPECT_FALSE(is_machine_id("0123456789ABCDEF0123456789abcdef"));
    EXPECT_FALSE(is_machine_id("0123456789abcdef0123456789abcde"));
    EXPECT_FALSE(is_machine_id("0123456789abcdef0123456789abcdef\n"));
    EXPECT_FALSE(is_machine_id(std::string(32, '0')));
}

}  // namespace
}  // namespace noid::agent
