#include <fcntl.h>

#include <fstream>

#include "store/user_database.hpp"
#include "vm/testing/engine_world.hpp"
#include "vm/token.hpp"

namespace noid::vm {
namespace {

namespace fs = std::filesystem;

using UsersTest = EngineWorld;

TEST_F(UsersTest, TokensAreValidInBothSpellingsUntilRotated) {
    run([this]() -> Awaitable<void> {
        co_await open();
        auto created = co_await engine_->create_user("ann@example.org");
        EXPECT_TRUE(created);
        EXPECT_EQ(created->secret.size(), 64u);
        EXPECT_TRUE(engine_->authenticate(created->secret));
        EXPECT_TRUE(engine_->authenticate("noid_tok_" + created->secret));
        EXPECT_EQ(engine_->authenticate("").error().code, Errc::unauthenticated);
        EXPECT_EQ(engine_->authenticate("noid_tok_").error().what, "invalid token");
        EXPECT_EQ(engine_->authenticate(std::string(100000, 'a')).error().code, Errc::unauthenticated);
        auto rotated = co_await engine_->rotate_token("ann@example.org");
        EXPECT_TRUE(rotated);
        EXPECT_EQ(engine_->authenticate(created->secret).error().code, Errc::unauthenticated);
        EXPECT_EQ(engine_->authenticate(rotated->secret).value()->user_name(), "ann@example.org");
        EXPECT_EQ((co_await engine_->rotate_token("bob")).error().what, "user 'bob' not found");
        EXPECT_EQ((co_await engine_->create_user("ann@example.org")).error().what,
                  "user 'ann@example.org' already exists");
        for (const char* bad : {"", "a b", "a/b", "\n", "ä"}) {
            EXPECT_EQ((co_await engine_->create_user(bad)).error().code, Errc::invalid) << bad;
        }
        EXPECT_EQ((co_await engine_->users())->size(), 1u);
        co_await close();
        co_await open();
        EXPECT_TRUE(engine_->authenticate(rotated->secret));
        EXPECT_FALSE(engine_->authenticate(created->secret));
        co_await close();
    });
}

TEST_F(UsersTest, TokensOfEarlierVersionsStayValid) {
    const std::string token = "noid_tok_" + std::string(64, 'a');
    fs::create_directories(config_.paths.data_dir);
    ASSERT_TRUE(store::UserDatabase::open(config_.paths.data_dir / "noid.db")
                    .value()
                    ->add("id", "old", sha256_hex(token)));
    run([this, token]() -> Awaitable<void> {
        co_await open();
        EXPECT_EQ(engine_->authenticate(token).value()->user_name(), "old");
        EXPECT_EQ(engine_->authenticate(std::string(64, 'a')).value()->user_id(), "id");
        co_await close();
    });
}

TEST_F(UsersTest, UsersAreSeparate) {
    run([this]() -> Awaitable<void> {
        co_await open();
        auto ann = co_await tenant();
        auto bob = engine_->authenticate((co_await engine_->create_user("bob"))->secret).value();
        EXPECT_TRUE(co_await ann->create(request("web")));
        EXPECT_TRUE(bob->list().empty());
        EXPECT_EQ(bob->find(VmName::parse("web").value()).error().code, Errc::not_found);
        EXPECT_EQ((co_await bob->destroy(VmName::parse("web").value())).value(), false);
        EXPECT_TRUE(co_await bob->create(request("web")));
        EXPECT_EQ(ann->list().size(), 1u);
        co_await close();
    });
}

TEST_F(UsersTest, ADeletedUserLeavesNothing) {
    run([this]() -> Awaitable<void> {
        co_await open();
        auto ann = co_await tenant();
        EXPECT_TRUE(co_await ann->create(request("a")));
        EXPECT_TRUE(co_await ann->create(request("b")));
        auto deleted = co_await engine_->delete_user("ann");
        EXPECT_TRUE(deleted);
        EXPECT_EQ(deleted->id, user_id_);
        EXPECT_EQ(engine_->authenticate(token_).error().code, Errc::unauthenticated);
        EXPECT_EQ(alive(), 0u);
        EXPECT_TRUE(script_->slots.empty());
        EXPECT_FALSE(fs::exists(user_directory()));
        EXPECT_FALSE(co_await ann->create(request("c")));
        EXPECT_EQ((co_await engine_->delete_user("ann")).error().code, Errc::not_found);
        co_await close();
    });
}

TEST_F(UsersTest, ADamagedDatabaseHurtsItsUserOnly) {
    run([this]() -> Awaitable<void> {
        co_await open();
        auto ann = co_await tenant();
        const std::string bob = (co_await engine_->create_user("bob"))->secret;
        ann.reset();
        co_await close();
        for (const char* suffix : {"", "-wal", "-shm"})
            fs::remove(user_directory() / ("noid.db" + std::string{suffix}));
        std::ofstream{user_directory() / "noid.db"} << std::string(10000, 'x');
        co_await open();
        EXPECT_EQ(engine_->authenticate(token_).error().code, Errc::corrupt);
        EXPECT_TRUE(engine_->authenticate(bob));
        co_await close();
    });
}

}  // namespace
}  // namespace noid::vm
