#include "store/user_database.hpp"

#include <gtest/gtest.h>

#include "base/random.hpp"

namespace noid::store {
namespace {

class UserDatabaseTest : public ::testing::Test {
  protected:
    UserDatabaseTest()
        : directory_{std::filesystem::temp_directory_path() / ("noid-users-" + random_hex(6))} {
        std::filesystem::create_directory(directory_);
    }
    ~UserDatabaseTest() override { std::filesystem::remove_all(directory_); }
    std::filesystem::path file() const { return directory_ / "noid.db"; }

    std::filesystem::path directory_;
};

TEST_F(UserDatabaseTest, AddsListsAndRotates) {
    auto database = UserDatabase::open(file());
    ASSERT_TRUE(database);
    auto ann = (*database)->add("id-1", "ann", "hash-1");
    ASSERT_TRUE(ann);
    EXPECT_EQ(ann->created_at.size(), std::string_view{"2025-01-01 00:00:00"}.size());
    ASSERT_TRUE((*database)->add("id-2", "bob", "hash-2"));
    auto taken = (*database)->add("id-3", "ann", "hash-3");
    ASSERT_FALSE(taken);
    EXPECT_EQ(taken.error().code, Errc::conflict);
    ASSERT_TRUE((*database)->set_token_hash("id-1", "hash-9"));
    EXPECT_EQ((*database)->set_token_hash("nobody", "x").error().code, Errc::not_found);
    auto users = (*database)->users();
    ASSERT_TRUE(users);
    ASSERT_EQ(users->size(), 2u);
    EXPECT_EQ(users->front().token_hash, "hash-9");
    EXPECT_EQ(users->back().name, "bob");
}

TEST_F(UserDatabaseTest, ADeletionIsRememberedUntilItIsFinished) {
    {
        auto database = UserDatabase::open(file());
        ASSERT_TRUE(database);
        ASSERT_TRUE((*database)->add("id-1", "ann", "hash-1"));
        ASSERT_TRUE((*database)->begin_deletion("id-1"));
        EXPECT_EQ((*database)->begin_deletion("id-1").error().code, Errc::not_found);
    }
    auto database = UserDatabase::open(file());
    ASSERT_TRUE(database);
    EXPECT_TRUE((*database)->users()->empty());
    EXPECT_EQ((*database)->deletions().value(), std::vector<std::string>{"id-1"});
    ASSERT_TRUE((*database)->finish_deletion("id-1"));
    EXPECT_TRUE((*database)->deletions()->empty());
}

TEST_F(UserDatabaseTest, OpensTheFileOfAnEarlierVersion) {
    {
        auto old = Connection::open(file(), Durability::process_crash);
        ASSERT_TRUE(old);
        ASSERT_TRUE(
            old->execute("CREATE TABLE users (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, "
                         "token_hash TEXT NOT NULL, created_at TEXT NOT NULL DEFAULT (datetime('now')));"
                         "INSERT INTO users (id, name, token_hash) VALUES ('u', 'old', 'h');"));
    }
    auto database = UserDatabase::open(file());
    ASSERT_TRUE(database);
    ASSERT_EQ((*database)->users()->size(), 1u);
    EXPECT_EQ((*database)->users()->front().name, "old");
}

}  // namespace
}  // namespace noid::store
