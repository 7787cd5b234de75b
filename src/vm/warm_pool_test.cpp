// VMs that are kept ready ahead of creates.
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <fstream>

#include "vm/golden.hpp"
#include "vm/race.hpp"
#include "vm/testing/engine_world.hpp"
#include "vm/warm_plan.hpp"

namespace noid::vm {
namespace {

namespace fs = std::filesystem;

VmName named(const char* text) {
    return VmName::parse(text).value();
}

TEST(WarmPlan, OneOfEachGoesBeforeASecondAndTheBoundHolds) {
    const std::vector<MiB> memory{MiB{256}, MiB{512}, MiB{128}};
    EXPECT_EQ(plan_warm_vms(memory, 2, MiB{10'000}), (std::vector<std::size_t>{2, 2, 2}));
    EXPECT_EQ(plan_warm_vms(memory, 2, MiB{1'152}), (std::vector<std::size_t>{2, 1, 1}));
    EXPECT_EQ(plan_warm_vms(memory, 2, MiB{512}), (std::vector<std::size_t>{1, 0, 2}));
    EXPECT_EQ(plan_warm_vms(memory, 3, MiB{100}), (std::vector<std::size_t>{0, 0, 0}));
    EXPECT_EQ(plan_warm_vms(memory, 0, MiB{1'000}), (std::vector<std::size_t>{0, 0, 0}));
    EXPECT_TRUE(plan_warm_vms({}, 1, MiB{1'000}).empty());
}

class WarmPoolTest : public EngineWorld {
  protected:
    WarmPoolTest() { config_.storage.template_budget = MiB{64}; }

    [[nodiscard]] fs::path warm() const { return config_.paths.data_dir / "warm"; }
    [[nodiscard]] std::size_t kept() const {
        return static_cast<std::size_t>(std::distance(fs::directory_iterator{warm()}, {}));
    }
    [[nodiscard]] fs::path one_kept() const {
        return fs::directory_iterator {
            warm()
            } -> path();
    }

    // A template of the usual shape; the VM that was booted for it is "first".
    Awaitable<void> bake() {
        config_.pool.size = 0;
        co_await open();
        auto ann = co_await tenant();
        EXPECT_TRUE(co_await ann->create(request("first")));
        ann.reset();
        co_await close();
    }
    // A server that keeps VMs ready, when it does.
    Awaitable<std::shared_ptr<Tenant>> begin(std::uint32_t size, std::size_t ready) {
        config_.pool.size = size;
        const std::size_t before = steps("pool:kept");
        co_await open();
        EXPECT_TRUE(co_await reached("pool:kept", before + ready));
        co_return co_await tenant();
    }
    [[nodiscard]] std::size_t steps(const std::string& step) const {
        const std::lock_guard lock{script_->mutex};
        return static_cast<std::size_t>(std::ranges::count(script_->steps, step));
    }
    Awaitable<WarmNumbers> numbers() { co_return (co_await engine_->numbers()).warm; }

    // That a guest was given with that name; meanwhile others of the pool may get theirs.
    [[nodiscard]] proto::Identity identity_of(std::string_view hostname) const {
        const std::lock_guard lock{script_->mutex};
        const auto found = std::ranges::find(script_->identities, hostname, &proto::Identity::hostname);
        return found == script_->identities.end() ? proto::Identity{} : *found;
    }

    // Processes that work below the data directory, even in a directory that is gone.
    [[nodiscard]] std::size_t processes() const {
        std::size_t count = 0;
        std::error_code ignored;
        for (const auto& entry : fs::directory_iterator{"/proc"}) {
            const auto at = fs::read_symlink(entry.path() / "cwd", ignored);
            count += at.string().starts_with(config_.paths.data_dir.string()) ? 1 : 0;
        }
        return count;
    }
};

TEST_F(WarmPoolTest, IsOffUnlessAskedFor) {
    run([this]() -> Awaitable<void> {
        co_await bake();
        co_await open();
        auto ann = co_await tenant();
        EXPECT_EQ((co_await ann->create(request("a")))->vm.start_kind, "template");
        EXPECT_EQ(alive(), 2u);
        EXPECT_EQ(kept(), 0u);
        co_await close();
    });
}

TEST_F(WarmPoolTest, ACreateLetsOneRunAndAnotherTakesItsPlace) {
    run([this]() -> Awaitable<void> {
        co_await bake();
        auto ann = co_await begin(2, 2);
        EXPECT_EQ(kept(), 2u);
        EXPECT_EQ(alive(), 3u);
        for (const auto& [id, settings] : script_->network) {
            if (!fs::exists(warm() / id)) continue;
            EXPECT_EQ(settings.mode, NetworkMode::none) << "it reaches nothing";
        }
        EXPECT_EQ(script_->identities.size(), 3u) << "each has tried it once";
        EXPECT_EQ(script_->identities.back().hostname, "localhost") << "nobody's yet";
        EXPECT_TRUE(script_->identities.back().env.empty());
        const std::string tried_machine_id = script_->identities.back().machine_id;

        auto wanted = request("a");
        wanted.env = {"A=1"};
        auto made = co_await ann->create(wanted);
        EXPECT_TRUE(made) << made.error().full();
        EXPECT_EQ(made->vm.start_kind, "pool");
        EXPECT_EQ(made->vm.state, State::running);
        EXPECT_TRUE(made->vm.warnings.empty());
        EXPECT_FALSE(made->vm.address.empty());
        const proto::Identity given = identity_of("a");
        EXPECT_EQ(given.hostname, "a");
        EXPECT_EQ(given.env, std::vector<std::string>{"A=1"});
        EXPECT_TRUE(given.end_sessions && given.new_boot_id && given.renew_ssh_host_keys && given.network);
        EXPECT_NE(given.machine_id, script_->identities.front().machine_id);
        EXPECT_NE(given.machine_id, tried_machine_id);
        EXPECT_NE(given.entropy, script_->identities.front().entropy);

        EXPECT_TRUE(co_await reached("pool:kept", 3));
        EXPECT_EQ(kept(), 2u);
        const WarmNumbers now = co_await numbers();
        EXPECT_EQ(now.ready, 2u);
        EXPECT_EQ(now.memory, MiB{256});
        EXPECT_EQ(now.given, 1u);
        EXPECT_EQ(now.missed, 0u);

        // It is a VM like any other.
        auto vm = ann->find(named("a")).value();
        EXPECT_TRUE(co_await vm->checkpoint(CheckpointRequest{"one"}));
        EXPECT_EQ(script_->saves.back(), vmm::SnapshotKind::incremental);
        EXPECT_TRUE(co_await vm->suspend());
        EXPECT_TRUE(co_await vm->resume());
        EXPECT_TRUE(co_await ann->destroy(named("a")));
        EXPECT_TRUE(co_await ann->destroy(named("first")));
        vm.reset();
        ann.reset();
        co_await close();
        EXPECT_EQ(kept(), 0u);
        expect_nothing_left();
    });
}

TEST_F(WarmPoolTest, ATemplateThatIsMadeIsKeptReadyAtOnce) {
    run([this]() -> Awaitable<void> {
        config_.pool.size = 1;
        co_await open();
        auto ann = co_await tenant();
        EXPECT_EQ((co_await ann->create(request("a")))->vm.start_kind, "boot");
        EXPECT_TRUE(co_await reached("pool:kept", 1));
        EXPECT_EQ((co_await ann->create(request("b")))->vm.start_kind, "pool");
        // Two at once: one is out of luck.
        EXPECT_TRUE(co_await reached("pool:kept", 2));
        auto [c, d] = co_await both(ann->create(request("c")), ann->create(request("d")));
        EXPECT_TRUE(c && d);
        EXPECT_NE(c->vm.start_kind, d->vm.start_kind);
        EXPECT_EQ((co_await numbers()).missed, 1u);
        co_await close();
    });
}

TEST_F(WarmPoolTest, KeepsWithinItsMemory) {
    run([this]() -> Awaitable<void> {
        co_await bake();
        config_.pool.memory = MiB{300};
        auto ann = co_await begin(4, 2);
        EXPECT_EQ((co_await ann->create(request("a")))->vm.start_kind, "pool");
        EXPECT_TRUE(co_await reached("pool:kept", 3));
        EXPECT_EQ((co_await numbers()).ready, 2u);
        EXPECT_EQ(kept(), 2u);
        co_await close();
    });
}

TEST_F(WarmPoolTest, CountsAgainstAQuotaOnlyOnceItIsGiven) {
    run([this]() -> Awaitable<void> {
        config_.limits.max_memory = MiB{256};
        co_await bake();
        auto ann = co_await begin(2, 2);
        EXPECT_EQ((co_await ann->create(request("a")))->vm.start_kind, "pool");
        EXPECT_TRUE(co_await reached("pool:kept", 3));
        EXPECT_EQ((co_await ann->create(request("b"))).error().code, Errc::limit_exceeded);
        EXPECT_EQ((co_await ann->create(request("a"))).error().code, Errc::conflict);
        // Nothing of a user's had reached it: it is still there.
        EXPECT_TRUE(co_await ann->destroy(named("first")));
        EXPECT_EQ((co_await ann->create(request("b")))->vm.start_kind, "pool");
        EXPECT_EQ((co_await numbers()).ended, 0u);
        co_await close();
    });
}

TEST_F(WarmPoolTest, OneThatIsOfNoUseIsReplacedByTheTemplate) {
    run([this]() -> Awaitable<void> {
        co_await bake();
        auto ann = co_await begin(1, 1);
        fs::rename(one_kept(), warm() / "elsewhere");
        auto made = co_await ann->create(request("a"));
        EXPECT_TRUE(made) << made.error().full();
        EXPECT_EQ(made->vm.start_kind, "template");
        fs::remove_all(warm() / "elsewhere");
        EXPECT_TRUE(co_await ann->destroy(named("a")));
        EXPECT_TRUE(co_await ann->destroy(named("first")));
        ann.reset();
        co_await close();
        expect_nothing_left();
    });
}

TEST_F(WarmPoolTest, OneThatWakesWhileTheServerClosesIsEnded) {
    run([this]() -> Awaitable<void> {
        co_await bake();
        script_->hold_at = "pool:ready";
        script_->hold_until = "pool:closing";
        config_.pool.size = 1;
        co_await open();
        EXPECT_TRUE(co_await reached("pool:ready", 1));
        co_await close();
        EXPECT_EQ(kept(), 0u);
        EXPECT_EQ(alive(), 1u) << "the first, which stays for the next server";
    });
}

TEST_F(WarmPoolTest, AHostThatHasLostItsNetworkGivesNoVmWithOne) {
    run([this]() -> Awaitable<void> {
        co_await bake();
        auto ann = co_await begin(1, 1);
        {
            const std::lock_guard lock{script_->mutex};
            script_->no_network = true;
        }
        auto made = co_await ann->create(request("a"));
        EXPECT_TRUE(made) << made.error().full();
        EXPECT_EQ(made->vm.start_kind, "boot");
        EXPECT_EQ(made->vm.address, "");
        EXPECT_EQ(made->vm.warnings, std::vector<std::string>{"no network: switched off in this test"});
        co_await close();
    });
}

TEST_F(WarmPoolTest, GivesWayToAUsersVmThatFindsNoPlace) {
    run([this]() -> Awaitable<void> {
        co_await bake();
        auto ann = co_await begin(1, 1);
        EXPECT_EQ(script_->slots.size(), 2u) << "of the first and of the one that is kept";
        script_->most_slots = 2;
        auto booted = request("booted");
        booted.boot = true;
        auto made = co_await ann->create(booted);
        EXPECT_TRUE(made) << made.error().full();
        EXPECT_EQ(kept(), 0u);
        EXPECT_EQ((co_await numbers()).ended, 1u);
        EXPECT_EQ(script_->slots.size(), 2u);

        booted.name = named("too-many");
        auto refused = co_await ann->create(booted);
        EXPECT_EQ(refused.error().code, Errc::limit_exceeded);
        EXPECT_TRUE(co_await ann->destroy(named("booted")));
        co_await close();
    });
}

TEST_F(WarmPoolTest, OneWhoseProcessEndsIsRemoved) {
    run([this]() -> Awaitable<void> {
        co_await bake();
        auto ann = co_await begin(1, 1);
        ::kill(script_->processes.back().pid, SIGKILL);
        EXPECT_TRUE(co_await reached("pool:ended", 1));
        EXPECT_EQ(kept(), 0u);
        EXPECT_EQ(script_->slots.size(), 1u);
        EXPECT_EQ((co_await ann->create(request("a")))->vm.start_kind, "template");
        EXPECT_EQ((co_await numbers()).ready, 0u) << "left alone for a while";
        co_await close();
    });
}

TEST_F(WarmPoolTest, OnesOfATemplateThatWasReplacedAreEnded) {
    run([this]() -> Awaitable<void> {
        co_await bake();
        auto ann = co_await begin(1, 1);
        std::ofstream{config_.paths.rootfs} << "another image";
        fs::resize_file(config_.paths.rootfs, MiB{2}.bytes());
        EXPECT_EQ((co_await ann->create(request("a")))->vm.start_kind, "boot");
        EXPECT_TRUE(co_await reached("pool:ended", 1));
        EXPECT_TRUE(co_await reached("pool:kept", 2));
        EXPECT_EQ((co_await ann->create(request("b")))->vm.start_kind, "pool");
        // Evicted, or removed by hand.
        EXPECT_TRUE(co_await reached("pool:kept", 3));
        for (const auto& entry : fs::directory_iterator{config_.paths.data_dir / "templates"})
            fs::remove_all(entry);
        EXPECT_TRUE(co_await reached("pool:ended", 2));
        EXPECT_EQ(kept(), 0u);
        co_await close();
    });
}

TEST_F(WarmPoolTest, FollowsGolden) {
    config_.storage.template_budget = MiB{0};
    run([this]() -> Awaitable<void> {
        config_.pool.size = 1;
        co_await open();
        auto ann = co_await tenant();
        EXPECT_TRUE(co_await ann->create(request("a")));
        auto saved = co_await ann->find(named("a")).value()->checkpoint(CheckpointRequest{});
        auto golden = Golden::open(config_.paths.data_dir).value();
        EXPECT_TRUE(golden.promote(saved->id));
        EXPECT_TRUE(co_await reached("pool:kept", 1));
        EXPECT_EQ((co_await ann->create(request("b")))->vm.start_kind, "pool");
        EXPECT_TRUE(co_await reached("pool:kept", 2));
        EXPECT_TRUE(golden.clear());
        EXPECT_TRUE(co_await reached("pool:ended", 1));
        EXPECT_EQ((co_await ann->create(request("c")))->vm.start_kind, "boot");
        co_await close();
    });
}

// --- the server is killed at a step ------------------------------------------------------------------

class WarmPoolKilledAt : public WarmPoolTest, public ::testing::WithParamInterface<const char*> {};

TEST_P(WarmPoolKilledAt, NothingStrayIsLeft) {
    const std::string step{GetParam()};
    run([this]() -> Awaitable<void> { co_await bake(); });
    EXPECT_EQ(processes(), 1u);
    const bool killed = run_until_killed_at(step, [this]() -> Awaitable<void> {
        config_.pool.size = 2;
        co_await open();
        EXPECT_TRUE(co_await reached("pool:kept", 2));
        auto ann = co_await tenant();
        (void)co_await ann->create(request("a"));
    });
    EXPECT_TRUE(killed) << "never came to " << step;
    run([this]() -> Awaitable<void> {
        co_await open();
        EXPECT_EQ(kept(), 0u);
        EXPECT_EQ(processes(), 1u);
        auto ann = co_await tenant();
        EXPECT_EQ(ann->list().size(), 1u);
        EXPECT_TRUE(co_await ann->find(named("first")).value()->ready(std::chrono::seconds{60}));
        EXPECT_TRUE(co_await ann->create(request("a")));
        EXPECT_TRUE(co_await ann->destroy(named("a")));
        EXPECT_TRUE(co_await ann->destroy(named("first")));
        ann.reset();
        co_await close();
        EXPECT_EQ(processes(), 0u);
        EXPECT_TRUE(fs::is_empty(user_directory() / "vms"));
    });
}

INSTANTIATE_TEST_SUITE_P(EveryStep, WarmPoolKilledAt,
                         ::testing::Values("pool:prepared", "pool:restored", "pool:ready", "pool:kept",
                                           "create:journalled", "create:prepared", "wake:resumed",
                                           "create:answered"));

}  // namespace
}  // namespace noid::vm
