#include <array>

#include "vm/testing/engine_world.hpp"

namespace noid::vm {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

using EngineTest = EngineWorld;

TEST_F(EngineTest, CreatesListsFindsAndDestroys) {
    run([this]() -> Awaitable<void> {
        co_await open();
        auto ann = co_await tenant();
        auto asked = request("web");
        asked.labels = {{"role", "front"}};
        asked.env = {"A=1"};
        auto created = co_await ann->create(asked);
        EXPECT_TRUE(created);
        EXPECT_EQ(created->vm.state, State::running);
        EXPECT_EQ(created->vm.disk, MiB{2});
        EXPECT_EQ(created->vm.labels.at("role"), "front");
        EXPECT_EQ(created->vm.address, "172.16.0.5");
        EXPECT_EQ(created->vm.guest_os, "Testux");
        EXPECT_EQ(created->vm.created_at.size(), 19u);
        EXPECT_TRUE(created->vm.started_unix);
        EXPECT_EQ(ann->list().size(), 1u);
        EXPECT_EQ(alive(), 1u);

        EXPECT_EQ(script_->identities.size(), 1u);
        const proto::Identity& identity = script_->identities.front();
        EXPECT_EQ(identity.hostname, "web");
        EXPECT_EQ(identity.machine_id.size(), 32u);
        EXPECT_NE(identity.entropy, (std::array<std::byte, 64>{}));
        EXPECT_GT(identity.clock_ns, 0);
        EXPECT_EQ(identity.env, std::vector<std::string>{"A=1"});
        EXPECT_TRUE(identity.network);
        EXPECT_TRUE(identity.renew_ssh_host_keys);

        auto web = ann->find(VmName::parse("web").value());
        EXPECT_TRUE(web);
        auto details = co_await (*web)->details();
        EXPECT_TRUE(details);
        EXPECT_GT(details->memory_used.value_or(0), 0u);
        EXPECT_TRUE(details->cpu_seconds);
        EXPECT_TRUE(details->disk_used);
        EXPECT_EQ(details->guest_memory_available, 4711u);

        EXPECT_EQ((co_await ann->destroy(VmName::parse("web").value())).value(), true);
        EXPECT_EQ((co_await ann->destroy(VmName::parse("web").value())).value(), false);
        EXPECT_TRUE(ann->list().empty());
        EXPECT_EQ(ann->find(VmName::parse("web").value()).error().what, "VM 'web' not found");
        expect_nothing_left();
        co_await close();
    });
}

TEST_F(EngineTest, TwentyAtOnceComeAndGoWithoutATrace) {
    config_.limits.max_vms = 20;
    run([this]() -> Awaitable<void> {
        co_await open();
        auto ann = co_await tenant();
        std::atomic<int> made = 0;
        auto life = [&](int number) -> Awaitable<void> {
            const std::string name = "vm-" + std::to_string(number);
            auto created = co_await ann->create(request(name.c_str()));
            made += created ? 1 : 0;
            EXPECT_TRUE((co_await ann->destroy(VmName::parse(name).value())).value_or(false));
        };
        std::atomic<int> ended = 0;
        asio::steady_timer all{loop_, 60s};
        for (int i = 0; i < 20; ++i) {
            asio::co_spawn(loop_, life(i), [&](std::exception_ptr thrown) {
                EXPECT_FALSE(thrown);
                if (++ended == 20) all.cancel();
            });
        }
        boost::system::error_code ignored;
        co_await all.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
        EXPECT_EQ(made, 20);
        EXPECT_EQ(script_->processes.size(), 20u);
        expect_nothing_left();
        co_await close();
    });
}

struct Failure {
    const char* name;
    std::function<void(Script&)> arrange;
    Errc code;
};

class CreateFailure : public EngineWorld, public ::testing::WithParamInterface<Failure> {};

TEST_P(CreateFailure, LeavesNothing) {
    run([this]() -> Awaitable<void> {
        co_await open();
        auto ann = co_await tenant();
        GetParam().arrange(*script_);
        auto asked = request("web");
        asked.idempotency_key = "key";
        auto created = co_await ann->create(asked);
        EXPECT_FALSE(created);
        if (!created) {
            EXPECT_EQ(created.error().code, GetParam().code) << created.error().full();
        }
        EXPECT_TRUE(ann->list().empty());
        expect_nothing_left();
        // The name and the key are free again.
        {
            const std::lock_guard lock{script_->mutex};
            script_->start_fails.reset();
            script_->network_fails.reset();
            script_->identity_fails.reset();
            script_->fail_at.clear();
            script_->guest_silent = false;
        }
        created = co_await ann->create(asked);
        EXPECT_TRUE(created) << created.error().full();
        EXPECT_FALSE(created->replayed);
        EXPECT_TRUE((co_await ann->destroy(asked.name)).value());
        expect_nothing_left();
        co_await close();
    });
}

INSTANTIATE_TEST_SUITE_P(
    AtEachStep, CreateFailure,
    ::testing::Values(
        Failure{"journalled", [](Script& script) { script.fail_at = "create:journalled"; }, Errc::internal},
        Failure{"network",
                [](Script& script) {
                    script.network_fails = Error{Errc::unavailable, "netd is ill"};
                },
                Errc::unavailable},
        Failure{"prepared", [](Script& script) { script.fail_at = "create:prepared"; }, Errc::internal},
        Failure{"vmm_start",
                [](Script& script) {
                    script.start_fails = Error{Errc::no_space, "disk full"};
                },
                Errc::no_space},
        Failure{"vmm_started", [](Script& script) { script.fail_at = "launch:started"; }, Errc::internal},
        Failure{"silent_guest", [](Script& script) { script.guest_silent = true; }, Errc::timed_out},
        Failure{"identity",
                [](Script& script) {
                    script.identity_fails = Error{Errc::unsupported, "no"};
                },
                Errc::unsupported},
        Failure{"answered", [](Script& script) { script.fail_at = "create:answered"; }, Errc::internal}),
    [](const auto& failure) { return failure.param.name; });

TEST_F(EngineTest, AMissingImageIsNotFoundAndAllocatesNothing) {
    run([this]() -> Awaitable<void> {
        co_await open();
        auto ann = co_await tenant();
        auto asked = request("web");
        asked.image = "nosuch";
        auto created = co_await ann->create(asked);
        EXPECT_EQ(created.error().code, Errc::not_found);
        fs::remove(config_.paths.kernel);
        created = co_await ann->create(request("web"));
        EXPECT_EQ(created.error().code, Errc::not_found);
        EXPECT_TRUE(created.error().what.starts_with("kernel not found: "));
        EXPECT_TRUE(script_->steps.empty());
        expect_nothing_left();
        co_await close();
    });
}

TEST_F(EngineTest, ACreateWhoseCallerGoesAwayIsUndone) {
    run([this]() -> Awaitable<void> {
        co_await open();
        auto ann = co_await tenant();
        script_->guest_silent = true;
        auto create = [ann]() -> Awaitable<Result<Tenant::Created>> {
            co_return co_await ann->create(request("web"));
        };
        auto created = co_await within(200ms, create());
        EXPECT_EQ(created.error().code, Errc::timed_out);
        EXPECT_TRUE(ann->list().empty());
        expect_nothing_left();
        co_await close();
    });
}

TEST_F(EngineTest, DestroyInterruptsACreate) {
    config_.guest.boot_timeout = 60s;
    run([this]() -> Awaitable<void> {
        co_await open();
        auto ann = co_await tenant();
        script_->guest_silent = true;
        std::optional<Result<Tenant::Created>> created;
        asio::steady_timer ended{loop_, 30s};
        asio::co_spawn(loop_, ann->create(request("web")),
                       [&](std::exception_ptr thrown, Result<Tenant::Created> result) {
                           EXPECT_FALSE(thrown);
                           created = std::move(result);
                           ended.cancel();
                       });
        EXPECT_TRUE(co_await reaches(ann, "web", State::creating));
        EXPECT_TRUE((co_await ann->destroy(VmName::parse("web").value())).has_value());
        boost::system::error_code ignored;
        if (!created) co_await ended.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
        EXPECT_EQ(created->error().code, Errc::conflict);
        EXPECT_TRUE(ann->list().empty());
        expect_nothing_left();
        co_await close();
    });
}

TEST_F(EngineTest, LimitsAreCheckedBeforeAnythingIsAllocated) {
    run([this]() -> Awaitable<void> {
        co_await open();
        auto ann = co_await tenant();
        auto refused = [&](auto change) -> Awaitable<Errc> {
            auto asked = request("web");
            change(asked);
            auto created = co_await ann->create(asked);
            co_return created ? Errc::internal : created.error().code;
        };
        EXPECT_EQ(co_await refused([](CreateRequest& r) { r.memory = MiB{4097}; }), Errc::limit_exceeded);
        EXPECT_EQ(co_await refused([](CreateRequest& r) { r.memory = MiB{1}; }), Errc::invalid);
        EXPECT_EQ(co_await refused([](CreateRequest& r) { r.cpus = 17; }), Errc::limit_exceeded);
        EXPECT_EQ(co_await refused([](CreateRequest& r) { r.cpus = 0; }), Errc::invalid);
        EXPECT_EQ(co_await refused([](CreateRequest& r) { r.disk = MiB{65537}; }), Errc::limit_exceeded);
        EXPECT_EQ(co_await refused([](CreateRequest& r) { r.disk = MiB{1}; }), Errc::invalid);
        EXPECT_EQ(co_await refused([](CreateRequest& r) { r.image = "../x"; }), Errc::invalid);
        EXPECT_EQ(co_await refused([](CreateRequest& r) { r.env = {"1A=2"}; }), Errc::invalid);
        EXPECT_EQ(co_await refused([](CreateRequest& r) { r.labels = {{"", "x"}}; }), Errc::invalid);
        EXPECT_TRUE(script_->steps.empty());

        for (const char* name : {"a", "b", "c", "d", "e"}) EXPECT_TRUE(co_await ann->create(request(name)));
        EXPECT_EQ((co_await ann->create(request("f"))).error().code, Errc::limit_exceeded);
        auto taken = co_await ann->create(request("a"));
        EXPECT_EQ(taken.error().code, Errc::conflict);
        EXPECT_EQ(taken.error().what, "VM 'a' already exists");

        auto vm = ann->find(VmName::parse("a").value()).value();
        EXPECT_TRUE(co_await vm->open(command()));
        EXPECT_TRUE(co_await vm->open(command()));
        EXPECT_EQ((co_await vm->open(command())).error().code, Errc::limit_exceeded);
        co_await close();
    });
}

TEST_F(EngineTest, AnIdempotencyKeyGivesTheFirstAnswerAgain) {
    run([this]() -> Awaitable<void> {
        co_await open();
        auto ann = co_await tenant();
        auto asked = request("web");
        asked.idempotency_key = "key";
        auto first = co_await ann->create(asked);
        EXPECT_TRUE(first);
        EXPECT_FALSE(first->replayed);
        auto again = co_await ann->create(asked);
        EXPECT_TRUE(again);
        EXPECT_TRUE(again->replayed);
        EXPECT_EQ(again->vm.created_unix, first->vm.created_unix);
        auto other = asked;
        other.memory = MiB{256};
        EXPECT_EQ((co_await ann->create(other)).error().code, Errc::conflict);
        EXPECT_EQ(script_->processes.size(), 1u);
        // Also after a restart, and when the VM is gone.
        co_await close();
        co_await open();
        ann = co_await tenant();
        EXPECT_TRUE((co_await ann->destroy(asked.name)).value());
        again = co_await ann->create(asked);
        EXPECT_TRUE(again);
        EXPECT_TRUE(again->replayed);
        EXPECT_EQ(again->vm.name, "web");
        EXPECT_TRUE(ann->list().empty());
        co_await close();
    });
}

TEST_F(EngineTest, WithoutANetworkAVmRunsAndSaysSo) {
    script_->no_network = true;
    run([this]() -> Awaitable<void> {
        co_await open();
        auto ann = co_await tenant();
        auto created = co_await ann->create(request("web"));
        EXPECT_EQ(created->vm.warnings, std::vector<std::string>{"no network: switched off in this test"});
        auto alone = request("alone");
        alone.network.mode = NetworkMode::none;
        created = co_await ann->create(alone);
        EXPECT_TRUE(created->vm.warnings.empty());
        co_await close();
    });
}

TEST_F(EngineTest, NumbersAreMeasured) {
    run([this]() -> Awaitable<void> {
        co_await open();
        auto ann = co_await tenant();
        EXPECT_TRUE(co_await ann->create(request("a")));
        const EngineNumbers numbers = co_await engine_->numbers();
        EXPECT_EQ(numbers.vms_total, 1u);
        EXPECT_EQ(numbers.vms_running, 1u);
        EXPECT_GT(numbers.memory_bytes, 0u);
        EXPECT_EQ(numbers.network.value().sent.bytes, 100u);
        EXPECT_EQ(numbers.networks.size(), 1u);
        EXPECT_EQ(numbers.networks[0].user, "ann");
        EXPECT_EQ(numbers.networks[0].vm, "a");
        EXPECT_EQ(numbers.networks[0].numbers.sent.bytes, 100u);
        co_await close();
    });
}

}  // namespace
}  // namespace noid::vm
