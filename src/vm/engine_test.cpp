#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <fstream>

#include "base/file.hpp"
#include "store/tenant_database.hpp"
#include "store/user_database.hpp"
#include "vm/testing/engine_world.hpp"
#include "vm/token.hpp"

namespace noid::vm {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

using EngineTest = EngineWorld;

// Not written as {} in a co_await expression: g++ 12 would destroy it twice.
proto::SessionSpec command() {
    return {};
}

// Waits until the VM is in that state; the state machine tells of every change.
Awaitable<bool> reaches(std::shared_ptr<Tenant> tenant, std::string name, State wanted) {
    asio::steady_timer timer{co_await asio::this_coro::executor};
    for (int i = 0; i < 6000; ++i) {
        for (const VmView& vm : tenant->list()) {
            if (vm.name == name && vm.state == wanted) co_return true;
        }
        timer.expires_after(10ms);
        co_await timer.async_wait(asio::use_awaitable);
    }
    co_return false;
}

// --- create and destroy ------------------------------------------------------------------------------

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

// --- network -----------------------------------------------------------------------------------------

NetworkSettings only_to(const char* network) {
    NetworkSettings settings;
    settings.mode = NetworkMode::egress;
    settings.rules.push_back({net::Action::allow, *net::parse_ipv4_network(network), net::Protocol::any, {}});
    return settings;
}

TEST_F(EngineTest, NetworkSettingsStayWithTheVm) {
    const NetworkSettings at_first = only_to("10.1.0.0/16");
    const NetworkSettings later = only_to("10.2.0.0/16");
    const NetworkSettings while_stopped = only_to("10.3.0.0/16");
    const auto in_force = [this]() -> NetworkSettings {
        EXPECT_EQ(script_->network.size(), 1u);
        return script_->network.begin()->second;
    };
    const VmName web = VmName::parse("web").value();
    run([&]() -> Awaitable<void> {
        co_await open();
        auto ann = co_await tenant();
        auto asked = request("web");
        asked.network = at_first;
        EXPECT_TRUE(co_await ann->create(asked));
        auto vm = ann->find(web).value();
        EXPECT_EQ(in_force(), at_first);
        EXPECT_TRUE(co_await vm->set_network(later));
        EXPECT_EQ(in_force(), later);
        EXPECT_EQ(vm->network(), later);
        EXPECT_EQ((co_await vm->network_numbers())->sent.bytes, 100u);
        EXPECT_TRUE((co_await vm->details())->network_numbers);

        script_->network_fails = Error{Errc::unavailable, "netd is ill"};
        EXPECT_EQ((co_await vm->set_network(at_first)).error().code, Errc::unavailable);
        script_->network_fails.reset();
        EXPECT_EQ(vm->network(), later);

        NetworkSettings wrong;
        wrong.upload = 1;
        EXPECT_EQ((co_await vm->set_network(wrong)).error().code, Errc::invalid);
        co_await close();
    });
    // Netd may have been told something that was not written down any more.
    script_->network.begin()->second = at_first;
    run([&]() -> Awaitable<void> {
        co_await open();
        auto ann = co_await tenant();
        auto vm = ann->find(web).value();
        EXPECT_EQ(vm->network(), later);
        EXPECT_EQ(in_force(), later);

        EXPECT_TRUE(co_await vm->suspend());
        EXPECT_EQ(in_force(), later) << "asleep, but it keeps its place";
        EXPECT_TRUE(co_await vm->set_network(at_first));
        EXPECT_EQ(in_force(), at_first);
        EXPECT_TRUE(co_await vm->set_network(later));
        EXPECT_TRUE(co_await vm->resume());
        EXPECT_EQ(in_force(), later);

        EXPECT_TRUE(co_await vm->stop(StopMode::force));
        EXPECT_TRUE(co_await vm->set_network(while_stopped));
        EXPECT_TRUE(co_await vm->start());
        EXPECT_EQ(in_force(), while_stopped);

        const ForkRequest two{std::size_t{2}};
        EXPECT_TRUE(co_await ann->checkpoints().fork(web, two));
        EXPECT_EQ(script_->network.size(), 3u);
        for (const auto& [id, settings] : script_->network) EXPECT_EQ(settings, while_stopped);
        co_await close();
    });
    // The directory is the truth when the row is lost.
    fs::remove(user_directory() / "noid.db");
    run([&]() -> Awaitable<void> {
        co_await open();
        auto ann = co_await tenant();
        EXPECT_EQ(ann->find(web).value()->network(), while_stopped);
        co_await close();
    });
}

TEST_F(EngineTest, PublishedPortsAreUniqueAndStay) {
    const VmName web = VmName::parse("web").value();
    const std::vector<PublishedPort> first{{80, 8080, true}};
    const std::vector<PublishedPort> both{{80, 8080, true}, {22, 2222, false}};
    const std::vector<PublishedPort> twice{{80, 1, false}, {80, 2, false}};
    const std::vector<PublishedPort> none;
    run([&]() -> Awaitable<void> {
        co_await open();
        auto ann = co_await tenant();
        int changes = 0;
        engine_->ports().watch([&changes] { ++changes; });
        auto asked = request("web");
        asked.ports = first;
        EXPECT_TRUE(co_await ann->create(asked));
        auto vm = ann->find(web).value();
        EXPECT_EQ(changes, 1);
        EXPECT_TRUE(co_await vm->set_published_ports(both));
        EXPECT_EQ(changes, 2);
        EXPECT_EQ((co_await vm->set_published_ports(twice)).error().code, Errc::invalid);

        auto other = request("other");
        other.ports = {{1, 2222, false}};
        EXPECT_EQ((co_await ann->create(other)).error().code, Errc::conflict);
        other.ports = {{1, 3333, false}};
        EXPECT_TRUE(co_await ann->create(other));
        auto second = ann->find(other.name).value();
        EXPECT_EQ((co_await second->set_published_ports(first)).error().code, Errc::conflict);
        EXPECT_EQ(second->published_ports(), other.ports);
        EXPECT_TRUE(co_await ann->destroy(other.name));
        EXPECT_EQ(engine_->ports().all().size(), 2u);
        engine_->ports().watch({});
        co_await close();
    });
    run([&]() -> Awaitable<void> {
        co_await open();
        auto ann = co_await tenant();
        auto vm = ann->find(web).value();
        EXPECT_EQ(vm->published_ports(), both);
        const auto published = engine_->ports().all();
        EXPECT_EQ(published.size(), 2u);
        EXPECT_EQ(published.front().vm, vm);
        EXPECT_EQ(published.front().port, both[1]) << "by the host's port";
        EXPECT_TRUE(co_await vm->set_published_ports(none));
        EXPECT_TRUE(engine_->ports().all().empty());
        co_await close();
    });
}

TEST_F(EngineTest, LeakedSlotsAreGivenBackAtTheStart) {
    run([this]() -> Awaitable<void> {
        co_await open();
        auto ann = co_await tenant();
        EXPECT_TRUE(co_await ann->create(request("web")));
        co_await close();
    });
    const std::string server = script_->server_id;
    EXPECT_EQ(server.size(), 32u);
    const std::set<std::string> held = script_->slots;
    script_->slots.insert("0123456789abcdef");
    run([this]() -> Awaitable<void> {
        co_await open();
        co_await close();
    });
    EXPECT_EQ(script_->slots, held);
    EXPECT_EQ(script_->server_id, server) << "it is the same server";
}

// --- life cycle --------------------------------------------------------------------------------------

TEST_F(EngineTest, StopsStartsPausesAndResumes) {
    run([this]() -> Awaitable<void> {
        co_await open();
        auto ann = co_await tenant();
        EXPECT_TRUE(co_await ann->create(request("web")));
        auto vm = ann->find(VmName::parse("web").value()).value();

        EXPECT_EQ((co_await vm->resume()).error().code, Errc::conflict);
        EXPECT_TRUE(co_await vm->pause());
        EXPECT_EQ(vm->view().state, State::paused);
        auto refused = co_await vm->open(command());
        EXPECT_EQ(refused.error().what, "VM 'web' is paused; resume it first");
        EXPECT_TRUE(co_await vm->resume());
        EXPECT_EQ(vm->view().state, State::running);

        EXPECT_TRUE(co_await vm->stop(StopMode::graceful));
        EXPECT_EQ(vm->view().state, State::stopped);
        EXPECT_FALSE(vm->view().started_unix);
        EXPECT_EQ(alive(), 0u);
        EXPECT_TRUE(script_->slots.empty());
        EXPECT_EQ((co_await vm->stop(StopMode::force)).error().code, Errc::conflict);
        EXPECT_EQ((co_await vm->ready(1s)).error().code, Errc::conflict);

        EXPECT_TRUE(co_await vm->start());
        EXPECT_EQ(vm->view().state, State::running);
        EXPECT_FALSE(script_->identities.back().renew_ssh_host_keys);
        EXPECT_TRUE(co_await vm->stop(StopMode::force));
        EXPECT_EQ(vm->view().state, State::stopped);
        EXPECT_TRUE((co_await ann->destroy(VmName::parse("web").value())).value());
        expect_nothing_left();
        co_await close();
    });
}

TEST_F(EngineTest, AStartThatFailsIsUndone) {
    run([this]() -> Awaitable<void> {
        co_await open();
        auto ann = co_await tenant();
        EXPECT_TRUE(co_await ann->create(request("web")));
        auto vm = ann->find(VmName::parse("web").value()).value();
        EXPECT_TRUE(co_await vm->stop(StopMode::force));
        script_->guest_silent = true;
        auto started = co_await vm->start();
        EXPECT_EQ(started.error().code, Errc::timed_out);
        EXPECT_EQ(vm->view().state, State::stopped);
        EXPECT_NE(vm->view().reason.find("did not answer"), std::string::npos);
        EXPECT_EQ(alive(), 0u);
        EXPECT_TRUE(script_->slots.empty());
        co_await close();
    });
}

TEST_F(EngineTest, AVmmThatDiesIsNoticedAndOthersRunOn) {
    run([this]() -> Awaitable<void> {
        co_await open();
        auto ann = co_await tenant();
        EXPECT_TRUE(co_await ann->create(request("a")));
        EXPECT_TRUE(co_await ann->create(request("b")));
        ::kill(script_->processes.front().pid, SIGKILL);
        EXPECT_TRUE(co_await reaches(ann, "a", State::dead));
        EXPECT_NE(ann->list().front().reason.find("signal 9"), std::string::npos);
        EXPECT_EQ(ann->list().back().state, State::running);
        EXPECT_EQ(script_->slots.size(), 1u);
        auto vm = ann->find(VmName::parse("a").value()).value();
        EXPECT_TRUE(co_await vm->start());
        EXPECT_EQ(vm->view().state, State::running);
        EXPECT_EQ(vm->view().reason, "");
        co_await close();
    });
}

TEST_F(EngineTest, AGuestThatPowersItselfOffIsStopped) {
    run([this]() -> Awaitable<void> {
        co_await open();
        auto ann = co_await tenant();
        EXPECT_TRUE(co_await ann->create(request("a")));
        ::kill(script_->processes.front().pid, SIGTERM);
        EXPECT_TRUE(co_await reaches(ann, "a", State::stopped));
        EXPECT_EQ(ann->list().front().reason, "the guest powered off");
        co_await close();
    });
}

TEST_F(EngineTest, TheConsoleIsKeptAndFollowed) {
    run([this]() -> Awaitable<void> {
        co_await open();
        auto ann = co_await tenant();
        EXPECT_TRUE(co_await ann->create(request("web")));
        auto vm = ann->find(VmName::parse("web").value()).value();
        auto reader = co_await vm->console(1000, true);
        auto next = [&]() -> Awaitable<Result<std::string>> { co_return co_await (*reader)->next(); };
        EXPECT_EQ((co_await on_strand(vm->strand(), next)).value(), "hello from the console\n");
        auto waits = co_await within(50ms, on_strand(vm->strand(), next));
        EXPECT_EQ(waits.error().code, Errc::timed_out);
        EXPECT_TRUE((co_await ann->destroy(VmName::parse("web").value())).value());
        EXPECT_EQ((co_await on_strand(vm->strand(), next)).value(), "");
        co_await close();
    });
}

// --- the server comes and goes -----------------------------------------------------------------------

TEST_F(EngineTest, ARestartTakesRunningVmsOver) {
    run([this]() -> Awaitable<void> {
        co_await open();
        auto ann = co_await tenant();
        EXPECT_TRUE(co_await ann->create(request("runs")));
        EXPECT_TRUE(co_await ann->create(request("paused")));
        EXPECT_TRUE(co_await ann->create(request("stopped")));
        EXPECT_TRUE(co_await ann->create(request("dies")));
        EXPECT_TRUE(co_await ann->find(VmName::parse("paused").value()).value()->pause());
        EXPECT_TRUE(co_await ann->find(VmName::parse("stopped").value()).value()->stop(StopMode::force));
        const auto before = ann->list();
        ann.reset();
        co_await close();
        EXPECT_EQ(alive(), 3u);
        ::kill(script_->processes.back().pid, SIGKILL);

        co_await open();
        ann = co_await tenant();
        const auto after = ann->list();
        EXPECT_EQ(after.size(), 4u);
        EXPECT_EQ(after[0].name, "runs");
        EXPECT_EQ(after[0].state, State::running);
        EXPECT_EQ(after[0].started_unix, before[0].started_unix);
        EXPECT_EQ(after[0].address, before[0].address);
        EXPECT_EQ(after[1].state, State::paused);
        EXPECT_EQ(after[2].state, State::stopped);
        EXPECT_TRUE(co_await reaches(ann, "dies", State::dead));
        EXPECT_EQ(script_->processes.size(), 4u) << "nothing was started anew";
        auto vm = ann->find(VmName::parse("runs").value()).value();
        EXPECT_TRUE(co_await vm->ready(60s));
        EXPECT_EQ(vm->view().agent_version, "test");
        for (const auto& view : after) {
            EXPECT_TRUE((co_await ann->destroy(VmName::parse(view.name).value())).value());
        }
        expect_nothing_left();
        co_await close();
    });
}

// The privileged part of a server, which may end at any time.
class MortalWarden final : public vmm::Warden {
  public:
    explicit MortalWarden(std::shared_ptr<vmm::Warden> alive) : alive_{std::move(alive)} {}

    bool lists_processes = true;

    [[nodiscard]] bool confines() const noexcept override { return alive_->confines(); }
    [[nodiscard]] const vmm::HostDevices& devices() const noexcept override { return alive_->devices(); }
    Result<launcher::Launched> start(vmm::ProcessRequest) override { return ended(); }
    Result<launcher::Launched> adopt(const ProcessIdentity&, const fs::path&) override { return ended(); }
    Result<vmm::ProcessFiles> files_of(const ProcessIdentity&) override { return ended(); }
    Result<vmm::Reclaimed> reclaim(const fs::path&) override { return ended(); }
    Result<std::vector<vmm::WorkingProcess>> processes() override {
        if (lists_processes) return alive_->processes();
        return ended();
    }

  private:
    static std::unexpected<Error> ended() { return fail(Errc::unavailable, "the privileged part has ended"); }

    std::shared_ptr<vmm::Warden> alive_;
};

TEST_F(EngineTest, AStartWithoutItsPrivilegedPartTakesNoVmForDead) {
    run([this]() -> Awaitable<void> {
        co_await open();
        EXPECT_TRUE(co_await (co_await tenant())->create(request("runs")));
        co_await close();

        const auto alive_warden = warden_;
        const auto mortal = std::make_shared<MortalWarden>(alive_warden);
        warden_ = mortal;
        mortal->lists_processes = false;
        std::string refusal;
        try {
            co_await open();
        } catch (const std::runtime_error& error) {
            refusal = error.what();
        }
        EXPECT_NE(refusal.find("the privileged part has ended"), std::string::npos) << refusal;

        // It ends a moment later, when VMs are taken over.
        mortal->lists_processes = true;
        script_->adopt_fails = Error{Errc::unavailable, "the privileged part has ended"};
        co_await open();
        EXPECT_EQ((co_await tenant())->list().front().state, State::running);
        co_await close();

        script_->adopt_fails.reset();
        warden_ = alive_warden;
        EXPECT_EQ(alive(), 1u);
        co_await open();
        auto ann = co_await tenant();
        EXPECT_EQ(ann->list().front().state, State::running);
        EXPECT_TRUE(co_await ann->find(VmName::parse("runs").value()).value()->ready(60s));
        EXPECT_TRUE((co_await ann->destroy(VmName::parse("runs").value())).value());
        expect_nothing_left();
        co_await close();
    });
}

TEST_F(EngineTest, ASecondServerIsToldWhoHasTheDirectory) {
    run([this]() -> Awaitable<void> {
        co_await open();
        auto second = DataDirectory::open(config_.paths.data_dir);
        EXPECT_EQ(second.error().code, Errc::conflict);
        EXPECT_NE(second.error().what.find("pid " + std::to_string(::getpid())), std::string::npos);
        co_await close();
        EXPECT_TRUE(DataDirectory::open(config_.paths.data_dir));
    });
}

// A child between clone and exec has its parent's descriptors, the lock among them.
TEST_F(EngineTest, WhatAKilledServerWasAboutToStartDoesNotKeepItsDirectory) {
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    const pid_t server = ::fork();
    if (server == 0) {
        const auto held = DataDirectory::open(config_.paths.data_dir);
        const pid_t child = ::fork();
        if (child == 0) ::pause();
        (void)!::write(ends[1], &child, sizeof child);
        ::kill(::getpid(), SIGKILL);
    }
    ::close(ends[1]);
    pid_t child = 0;
    ASSERT_EQ(::read(ends[0], &child, sizeof child), static_cast<ssize_t>(sizeof child));
    const auto identity = identify(child);
    ASSERT_TRUE(identity);
    const auto process = open_process(*identity);
    ASSERT_TRUE(process);
    ASSERT_EQ(::waitpid(server, nullptr, 0), server);
    ::close(ends[0]);

    const auto next = DataDirectory::open(config_.paths.data_dir);
    EXPECT_TRUE(next) << next.error().full();
    pollfd ended{process->get(), POLLIN, 0};
    EXPECT_EQ(::poll(&ended, 1, 0), 1) << "it must not become a VMM that nobody knows";
}

// A server that was killed at some step leaves what its journal and directories say. The situation is
// made by hand, as the kill left it.
class Interrupted : public EngineWorld {
  protected:
    Awaitable<void> prepare() {
        co_await open();
        auto ann = co_await tenant();
        EXPECT_TRUE(co_await ann->create(request("keep")));
        ann.reset();
        co_await close();
        database_ = store::TenantDatabase::open(user_directory() / "noid.db").value();
    }
    ProcessIdentity start_process(const fs::path& directory) {
        launcher::ProcessSpec spec;
        spec.program = "/bin/sleep";
        spec.arguments = {"infinity"};
        spec.directory = directory;
        auto launched = launcher::launch(spec).value();
        script_->processes.push_back(launched.identity);
        // Ours to reap, in the test; the server that started it would be gone.
        children_.push_back(std::move(launched));
        return children_.back().identity;
    }
    Awaitable<std::shared_ptr<Tenant>> restart() {
        database_.reset();
        co_await open();
        co_return co_await tenant();
    }

    std::unique_ptr<store::TenantDatabase> database_;
    std::vector<launcher::Launched> children_;
};

TEST_F(Interrupted, CreateBeforeItsProcessWasRecordedIsTakenBack) {
    run([this]() -> Awaitable<void> {
        co_await prepare();
        const fs::path half = user_directory() / "vms" / "half";
        fs::create_directory(half);
        std::ofstream{half / "rootfs.ext4"} << "x";
        std::ofstream{user_directory() / "logs" / "half.log"} << "x";
        start_process(half);
        script_->slots.insert("half-id");
        EXPECT_TRUE(database_->begin({0, "create", "half", IntentData{"half-id"}.to_json()}));
        auto ann = co_await restart();
        EXPECT_EQ(ann->list().size(), 1u);
        EXPECT_EQ(ann->list().front().state, State::running);
        EXPECT_TRUE((co_await ann->destroy(VmName::parse("keep").value())).value());
        expect_nothing_left();
        co_await close();
    });
}

TEST_F(Interrupted, DestroyIsFinished) {
    run([this]() -> Awaitable<void> {
        co_await prepare();
        const store::VmRow row = database_->vms()->front();
        EXPECT_TRUE(database_->begin({0, "destroy", "keep", IntentData{row.id}.to_json()}));
        auto ann = co_await restart();
        EXPECT_TRUE(ann->list().empty());
        expect_nothing_left();
        co_await close();
    });
}

TEST_F(Interrupted, StopIsFinished) {
    run([this]() -> Awaitable<void> {
        co_await prepare();
        const store::VmRow row = database_->vms()->front();
        EXPECT_TRUE(database_->begin({0, "stop", "keep", IntentData{row.id}.to_json()}));
        auto ann = co_await restart();
        EXPECT_EQ(ann->list().front().state, State::stopped);
        EXPECT_EQ(alive(), 0u);
        EXPECT_TRUE(co_await ann->find(VmName::parse("keep").value()).value()->start());
        co_await close();
    });
}

TEST_F(Interrupted, StartIsTakenBack) {
    run([this]() -> Awaitable<void> {
        co_await prepare();
        store::VmRow row = database_->vms()->front();
        ::kill(script_->processes.front().pid, SIGKILL);
        row.runtime.state = "stopped";
        row.runtime.pid.reset();
        EXPECT_TRUE(database_->update_runtime(row.id, row.runtime));
        const ProcessIdentity process = start_process(user_directory() / "vms" / "keep");
        EXPECT_TRUE(database_->begin({0, "start", "keep", IntentData{row.id, process}.to_json()}));
        auto ann = co_await restart();
        EXPECT_EQ(ann->list().front().state, State::stopped);
        EXPECT_FALSE(open_process(process));
        co_await close();
    });
}

TEST_F(Interrupted, StrayDirectoriesGoAndCompleteOnesComeBack) {
    run([this]() -> Awaitable<void> {
        co_await prepare();
        const fs::path vms = user_directory() / "vms";
        fs::create_directory(vms / ".trash-1");
        fs::create_directory(vms / "incomplete");
        const store::VmRow row = database_->vms()->front();
        const std::int64_t intent = database_->begin({0, "x", "keep", ""}).value();
        EXPECT_TRUE(database_->commit_destroy(intent, row.id));  // the index is lost, the directory is not
        auto ann = co_await restart();
        EXPECT_FALSE(fs::exists(vms / ".trash-1"));
        EXPECT_FALSE(fs::exists(vms / "incomplete"));
        EXPECT_EQ(ann->list().size(), 1u);
        EXPECT_EQ(ann->list().front().name, "keep");
        EXPECT_EQ(ann->list().front().state, State::stopped);
        EXPECT_EQ(alive(), 0u);
        EXPECT_TRUE(co_await ann->find(VmName::parse("keep").value()).value()->start());
        co_await close();
    });
}

TEST_F(Interrupted, AVmWithoutItsFilesIsDeadAndCanBeDestroyed) {
    run([this]() -> Awaitable<void> {
        co_await prepare();
        ::kill(script_->processes.front().pid, SIGKILL);
        fs::remove_all(user_directory() / "vms" / "keep");
        auto ann = co_await restart();
        EXPECT_EQ(ann->list().front().state, State::dead);
        EXPECT_TRUE((co_await ann->destroy(VmName::parse("keep").value())).value());
        expect_nothing_left();
        co_await close();
    });
}

// --- users -------------------------------------------------------------------------------------------

TEST_F(EngineTest, TokensAreValidInBothSpellingsUntilRotated) {
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

TEST_F(EngineTest, TokensOfEarlierVersionsStayValid) {
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

TEST_F(EngineTest, UsersAreSeparate) {
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

TEST_F(EngineTest, ADeletedUserLeavesNothing) {
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

TEST_F(EngineTest, ADamagedDatabaseHurtsItsUserOnly) {
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
