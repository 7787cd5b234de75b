#include "store/tenant_database.hpp"

#include <gtest/gtest.h>

#include "base/random.hpp"

namespace noid::store {
namespace {

class TenantDatabaseTest : public ::testing::Test {
  protected:
    TenantDatabaseTest()
        : directory_{std::filesystem::temp_directory_path() / ("noid-tenant-" + random_hex(6))} {
        std::filesystem::create_directory(directory_);
        auto opened = TenantDatabase::open(directory_ / "noid.db");
        EXPECT_TRUE(opened);
        database_ = std::move(*opened);
    }
    ~TenantDatabaseTest() override {
        database_.reset();
        std::filesystem::remove_all(directory_);
    }
    static VmRow row(std::string name) {
        VmRow row;
        row.id = "id-" + name;
        row.name = std::move(name);
        row.created_unix = 1'700'000'000;
        row.config = "{}";
        row.runtime.state = "running";
        row.runtime.pid = 77;
        row.runtime.pid_start_time = 88;
        return row;
    }

    std::filesystem::path directory_;
    std::unique_ptr<TenantDatabase> database_;
};

TEST_F(TenantDatabaseTest, ACreateCommitsRowIntentAndReplayTogether) {
    auto intent = database_->begin({0, "create", "a", R"({"x":1})"});
    ASSERT_TRUE(intent);
    ASSERT_EQ(database_->intents()->size(), 1u);
    ASSERT_TRUE(database_->amend(*intent, R"({"x":2})"));
    EXPECT_EQ(database_->intents()->front().data, R"({"x":2})");
    ASSERT_TRUE(database_->commit_create(*intent, row("a"), Replay{"key", "hash", "answer", 100}));
    EXPECT_TRUE(database_->intents()->empty());
    auto rows = database_->vms();
    ASSERT_EQ(rows->size(), 1u);
    EXPECT_EQ(rows->front().runtime.pid, 77);
    EXPECT_EQ(database_->replay("key", 0).value()->answer, "answer");
}

TEST_F(TenantDatabaseTest, AFailedCreateCommitKeepsTheIntent) {
    ASSERT_TRUE(database_->add_vm(row("a")));
    auto intent = database_->begin({0, "create", "a", ""});
    auto refused = database_->commit_create(*intent, row("a"), std::nullopt);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::conflict);
    EXPECT_EQ(database_->intents()->size(), 1u);
}

TEST_F(TenantDatabaseTest, RuntimeAndDestroyEndTheirIntent) {
    ASSERT_TRUE(database_->add_vm(row("a")));
    auto intent = database_->begin({0, "stop", "a", ""});
    VmRuntime stopped;
    stopped.state = "stopped";
    stopped.reason = "asked";
    ASSERT_TRUE(database_->commit_runtime(*intent, "id-a", stopped));
    EXPECT_EQ(database_->vms()->front().runtime.state, "stopped");
    EXPECT_FALSE(database_->vms()->front().runtime.pid);
    EXPECT_EQ(database_->update_runtime("nobody", stopped).error().code, Errc::not_found);
    intent = database_->begin({0, "destroy", "a", ""});
    ASSERT_TRUE(database_->commit_destroy(*intent, "id-a"));
    EXPECT_TRUE(database_->vms()->empty());
    EXPECT_TRUE(database_->intents()->empty());
}

TEST_F(TenantDatabaseTest, ReplaysExpire) {
    auto intent = database_->begin({0, "create", "a", ""});
    ASSERT_TRUE(database_->commit_create(*intent, row("a"), Replay{"key", "hash", "answer", 100}));
    EXPECT_TRUE(database_->replay("key", 100).value());
    EXPECT_FALSE(database_->replay("key", 101).value());
    EXPECT_FALSE(database_->replay("key", 0).value());
}

}  // namespace
}  // namespace noid::store
