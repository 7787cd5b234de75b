#include "vm/quota.hpp"

#include <gtest/gtest.h>

#include <fstream>

#include "vm/testing/engine_world.hpp"

namespace noid::vm {
namespace {

namespace fs = std::filesystem;

TEST(Quota, SharesAreGivenBack) {
    config::ServerConfig::Limits defaults;
    defaults.max_memory = MiB{512};
    defaults.max_vcpus = 3;
    Quota quota{defaults, {}};
    {
        auto first = quota.take(1, MiB{256});
        ASSERT_TRUE(first);
        auto second = quota.take(1, MiB{257});
        ASSERT_FALSE(second);
        EXPECT_EQ(second.error().code, Errc::limit_exceeded);
        EXPECT_EQ(second.error().what, "256 used and 257 wanted, but the user's limit is 512 MiB of memory");
        EXPECT_EQ(quota.take(3, MiB{1}).error().what, "1 used and 3 wanted, but the user's limit is 3 vCPUs");
        EXPECT_EQ(quota.running().vcpus, 1u);
    }
    EXPECT_EQ(quota.running().memory, MiB{0});
    EXPECT_TRUE(quota.take(3, MiB{512}));
}

TEST(Quota, TheUsersOwnLimitHoldsAtOnceAndWhatRunsGoesOn) {
    Quota quota{{}, {}};
    auto running = quota.take(4, MiB{4096});
    ASSERT_TRUE(running);
    store::UserLimits own;
    own.max_vcpus = 4;
    quota.set(own);
    EXPECT_FALSE(quota.take(1, MiB{1}));
    auto adopted = quota.take_over(1, MiB{1});
    EXPECT_EQ(quota.running().vcpus, 5u);
    quota.set({});
    EXPECT_TRUE(quota.take(1, MiB{1}));
}

TEST(Quota, ClaimsCountUntilTheyAreWritten) {
    store::UserLimits own;
    own.max_disk_mib = 10;
    Quota quota{{}, own};
    EXPECT_TRUE(quota.bounds_disk());
    {
        auto claim = quota.claim(MiB{4}.bytes(), MiB{6}.bytes());
        ASSERT_TRUE(claim);
        EXPECT_EQ(quota.claim(MiB{4}.bytes(), 1).error().what,
                  "10 used and 1 wanted, but the user's limit is 10 MiB of disk");
    }
    EXPECT_TRUE(quota.claim(MiB{4}.bytes(), 1));
}

class QuotaTest : public EngineWorld {};

TEST_F(QuotaTest, LimitsOfAUserHoldAtOnceAndStay) {
    run([this]() -> Awaitable<void> {
        co_await open();
        auto ann = co_await tenant();
        EXPECT_TRUE(co_await ann->create(request("a")));
        store::UserLimits own;
        own.max_vms = 1;
        auto set = co_await engine_->set_limits("ann", own);
        EXPECT_TRUE(set);
        EXPECT_EQ(set->allowed.vms, 1u);
        EXPECT_EQ(set->used.vms, 1u);
        EXPECT_EQ(set->used.memory, MiB{128});
        auto refused = co_await ann->create(request("b"));
        EXPECT_EQ(refused.error().code, Errc::limit_exceeded);
        own.max_vms = -1;
        EXPECT_EQ((co_await engine_->set_limits("ann", own)).error().code, Errc::invalid);
        EXPECT_EQ((co_await engine_->set_limits("bob", {})).error().code, Errc::not_found);
        ann.reset();
        co_await close();

        co_await open();
        ann = co_await tenant();
        EXPECT_EQ((co_await engine_->limits("ann"))->own.max_vms, 1);
        EXPECT_EQ((co_await ann->create(request("b"))).error().code, Errc::limit_exceeded);
        EXPECT_TRUE(co_await engine_->set_limits("ann", {}));
        EXPECT_TRUE(co_await ann->create(request("b")));
        ann.reset();
        co_await close();
    });
}

TEST_F(QuotaTest, MemoryCountsWhatHasAProcess) {
    run([this]() -> Awaitable<void> {
        config_.limits.max_memory = MiB{256};
        co_await open();
        auto ann = co_await tenant();
        EXPECT_TRUE(co_await ann->create(request("a")));
        EXPECT_TRUE(co_await ann->create(request("b")));
        auto third = co_await ann->create(request("c"));
        EXPECT_EQ(third.error().code, Errc::limit_exceeded);
        EXPECT_NE(third.error().what.find("256 used and 128 wanted"), std::string::npos);
        auto a = ann->find(VmName::parse("a").value()).value();
        auto b = ann->find(VmName::parse("b").value()).value();
        EXPECT_TRUE(co_await a->suspend());
        EXPECT_TRUE(co_await ann->create(request("c")));
        // It may not come back while there is no room, and stays what it is.
        EXPECT_EQ((co_await a->resume()).error().code, Errc::limit_exceeded);
        EXPECT_EQ(a->view().state, State::suspended);
        EXPECT_TRUE(co_await b->stop(StopMode::force));
        EXPECT_TRUE(co_await a->resume());
        EXPECT_EQ((co_await b->start()).error().code, Errc::limit_exceeded);
        EXPECT_EQ(b->view().state, State::stopped);
        a.reset();
        b.reset();
        ann.reset();
        co_await close();

        // What runs is counted by the next server too.
        co_await open();
        EXPECT_EQ((co_await engine_->limits("ann"))->used.memory, MiB{256});
        co_await close();
    });
}

TEST_F(QuotaTest, DiskIsWhatIsReallyUsed) {
    run([this]() -> Awaitable<void> {
        config_.limits.max_disk = MiB{8};
        co_await open();
        auto ann = co_await tenant();
        EXPECT_TRUE(co_await ann->create(request("a")));
        auto a = ann->find(VmName::parse("a").value()).value();
        // A full save may write all of the memory, which is more than there is room for.
        auto refused = co_await a->checkpoint(CheckpointRequest{});
        EXPECT_EQ(refused.error().code, Errc::limit_exceeded);
        EXPECT_NE(refused.error().what.find(" wanted, but the user's limit is 8 MiB of disk"),
                  std::string::npos)
            << refused.error().what;
        EXPECT_EQ((co_await a->suspend()).error().code, Errc::limit_exceeded);
        EXPECT_EQ(a->view().state, State::running);
        EXPECT_TRUE(fs::is_empty(user_directory() / "checkpoints"));

        std::ofstream{user_directory() / "vms" / "a" / "filled"} << std::string(MiB{9}.bytes(), 'x');
        EXPECT_EQ((co_await ann->create(request("b"))).error().code, Errc::limit_exceeded);
        EXPECT_GE((co_await engine_->limits("ann"))->used.disk, MiB{9});
        EXPECT_TRUE(co_await ann->destroy(VmName::parse("a").value()));
        EXPECT_TRUE(co_await ann->create(request("b")));
        a.reset();
        ann.reset();
        co_await close();
    });
}

}  // namespace
}  // namespace noid::vm
