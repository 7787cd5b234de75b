#include "agent/accounts.hpp"

#include <gtest/gtest.h>

namespace noid::agent {
namespace {

constexpr const char* passwd =
    "root:x:0:0:root:/root:/bin/bash\n"
    "broken line\n"
    "nobody:x:what:65534::/:/bin/false\n"
    "ann:x:1000:1000:Ann,,,:/home/ann:/bin/zsh\n"
    "bare:x:1001:100:::";
constexpr const char* group =
    "root:x:0:\nsudo:x:27:bob,ann\nusers:x:100:ann\nann:x:1000:ann\nannex:x:5:annabel\n";

TEST(Accounts, ByName) {
    const auto ann = find_account("ann", passwd, group);
    ASSERT_TRUE(ann);
    EXPECT_EQ(ann->uid, 1000U);
    EXPECT_EQ(ann->home, "/home/ann");
    EXPECT_EQ(ann->shell, "/bin/zsh");
    EXPECT_EQ(ann->groups, (std::vector<gid_t>{1000, 27, 100}));
}

TEST(Accounts, ByNumber) {
    EXPECT_EQ(find_account("1000", passwd, group)->name, "ann");
    const auto other = find_account("1000:27", passwd, group);
    EXPECT_EQ(other->gid, 27U);
    EXPECT_EQ(other->groups, (std::vector<gid_t>{27, 100, 1000}));
    const auto unknown = find_account("4242", passwd, group);
    ASSERT_TRUE(unknown);
    EXPECT_EQ(unknown->gid, 4242U);
    EXPECT_EQ(unknown->home, "/");
}

TEST(Accounts, RootIsTheDefaultAlsoWithoutFiles) {
    EXPECT_EQ(find_account("", passwd, group)->shell, "/bin/bash");
    const auto root = find_account("", "", "");
    ASSERT_TRUE(root);
    EXPECT_EQ(root->uid, 0U);
    EXPECT_EQ(root->home, "/root");
}

TEST(Accounts, EmptyFieldsHaveDefaults) {
    const auto bare = find_account("bare", passwd, group);
    ASSERT_TRUE(bare);
    EXPECT_EQ(bare->home, "/");
    EXPECT_EQ(bare->shell, "/bin/sh");
}

TEST(Accounts, WhatIsNotThere) {
    EXPECT_EQ(find_account("bob", passwd, group).error().code, Errc::not_found);
    EXPECT_EQ(find_account("nobody", passwd, group).error().code, Errc::not_found)
        << "its entry is malformed";
    EXPECT_EQ(find_account("1000:x", passwd, group).error().code, Errc::invalid);
}

}  // namespace
}  // namespace noid::agent
