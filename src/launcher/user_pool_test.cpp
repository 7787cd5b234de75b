#include "launcher/user_pool.hpp"

#include <gtest/gtest.h>

namespace noid::launcher {
namespace {

TEST(UserPool, GivesEachUserToOne) {
    UserPool pool{{.first = 5000, .count = 2}};
    const auto first = pool.take();
    const auto second = pool.take();
    ASSERT_TRUE(first && second);
    EXPECT_EQ((*first)->user, 5000U);
    EXPECT_EQ((*second)->user, 5001U);
    EXPECT_EQ((*second)->group, 5001U);
    EXPECT_EQ(pool.take().error().code, Errc::limit_exceeded);
}

TEST(UserPool, TakesBackAndLetsAnIdRest) {
    UserPool pool{{.first = 5000, .count = 3}};
    ASSERT_TRUE(pool.take());
    EXPECT_EQ((**pool.take()).user, 5001U);
    EXPECT_EQ((**pool.take()).user, 5002U);
    EXPECT_EQ((**pool.take()).user, 5000U);
}

TEST(UserPool, KeepsTheUserOfAProcessThatRuns) {
    UserPool pool{{.first = 5000, .count = 2}};
    const auto running = pool.take(5000);
    ASSERT_TRUE(running);
    EXPECT_EQ(pool.take(5000).error().code, Errc::conflict);
    EXPECT_EQ((**pool.take()).user, 5001U);
    for (const uid_t stranger : {0U, 4999U, 5002U})
        EXPECT_EQ(pool.take(stranger).error().code, Errc::conflict);
}

TEST(UserPool, ALeaseMayOutliveItsPool) {
    Result<UserPool::Lease> lease = UserPool{{.first = 5000, .count = 1}}.take();
    ASSERT_TRUE(lease);
    EXPECT_EQ((*lease)->user, 5000U);
}

}  // namespace
}  // namespace noid::launcher
