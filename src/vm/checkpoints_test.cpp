// Checkpoints, restore, clones, forks and suspension, with machines whose memory is a text.
#include <gtest/gtest.h>

#include <csignal>
#include <fstream>
#include <iterator>

#include "vm/sha256.hpp"
#include "vm/stray_processes.hpp"
#include "vm/suspension_files.hpp"
#include "vm/testing/engine_world.hpp"

namespace noid::vm {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

VmName named(const char* text) {
    return VmName::parse(text).value();
}

proto::SessionSpec command() {
    return {};
}

class CheckpointsTest : public EngineWorld {
  protected:
    // A server with one user and a running VM "web".
    Awaitable<std::shared_ptr<Tenant>> begin() {
        co_await open();
        auto ann = co_await tenant();
        auto created = co_await ann->create(request("web"));
        if (!created) throw std::runtime_error{created.error().full()};
        co_return ann;
    }
    static std::shared_ptr<Vm> vm_of(const std::shared_ptr<Tenant>& tenant, const char* name = "web") {
        return tenant->find(named(name)).value();
    }
    [[nodiscard]] fs::path directory_of(const char* name) const { return user_directory() / "vms" / name; }
    [[nodiscard]] fs::path checkpoints() const { return user_directory() / "checkpoints"; }

    // What the VM has in its memory and at the beginning of its disk.
    void set_memory(const char* name, const std::string& text) {
        std::ofstream{guest_memory_file(directory_of(name), pid_of(name))} << text;
    }
    std::string memory(const char* name) {
        std::ifstream file{guest_memory_file(directory_of(name), pid_of(name))};
        return {std::istreambuf_iterator<char>{file}, {}};
    }
    void set_disk(const char* name, const std::string& text) {
        std::fstream file{directory_of(name) / "rootfs.ext4", std::ios::in | std::ios::out};
        file << text << ';';
    }
    std::string disk(const char* name) {
        std::ifstream file{directory_of(name) / "rootfs.ext4"};
        std::string text;
        std::getline(file, text, ';');
        return text;
    }
    bool stands_still(const char* name) { return fs::exists(pause_mark(directory_of(name), pid_of(name))); }
    // Of the VM's machine; 0 when there is none.
    pid_t pid_of(const char* name) {
        const auto processes = processes_in(*warden_, directory_of(name)).value();
        return processes.empty() ? 0 : processes.front().pid;
    }
    void expect_no_remains() {
        for (const fs::path& place : {user_directory() / "vms", checkpoints()}) {
            for (const auto& entry : fs::recursive_directory_iterator{place}) {
                const std::string name = entry.path().filename().string();
                EXPECT_FALSE(name.starts_with('.') || name.starts_with("saving.")) << entry.path();
            }
        }
    }
};

// The journal's entry stayed behind, because the disk was full when the suspension was to be concluded.
TEST_F(CheckpointsTest, AVmThatWokeSinceIsNotSuspendedAgainByRecovery) {
    run([this]() -> Awaitable<void> {
        auto ann = co_await begin();
        const ProcessIdentity before = script_->processes.back();
        EXPECT_TRUE(co_await vm_of(ann)->suspend());
        EXPECT_TRUE(co_await vm_of(ann)->resume());
        set_memory("web", "newer");
        ann.reset();
        co_await close();
        {
            auto database = store::TenantDatabase::open(user_directory() / "noid.db").value();
            IntentData data{database->vms()->front().id, before};
            data.step = suspension_saved;
            EXPECT_TRUE(database->begin({0, "suspend", "web", data.to_json()}));
        }
        co_await open();
        ann = co_await tenant();
        EXPECT_EQ(vm_of(ann)->view().state, State::running);
        EXPECT_EQ(memory("web"), "newer");
        EXPECT_FALSE(stands_still("web"));
        EXPECT_TRUE(co_await ann->destroy(named("web")));
        expect_nothing_left();
        co_await close();
    });
}

TEST_F(CheckpointsTest, ARestoreBringsMemoryAndDiskBack) {
    run([this]() -> Awaitable<void> {
        auto ann = co_await begin();
        set_memory("web", "one");
        set_disk("web", "first");
        auto saved = co_await vm_of(ann)->checkpoint(CheckpointRequest{"good", "before"});
        EXPECT_TRUE(saved) << saved.error().full();
        EXPECT_EQ(saved->name, "good");
        EXPECT_FALSE(stands_still("web"));
        set_memory("web", "two");
        set_disk("web", "second");

        auto restored = co_await ann->checkpoints().restore(named("web"), RestoreRequest{"good"});
        EXPECT_TRUE(restored) << restored.error().full();
        EXPECT_EQ(memory("web"), "one");
        EXPECT_EQ(disk("web"), "first");
        EXPECT_FALSE(stands_still("web"));
        EXPECT_EQ(restored->vm.state, State::running);
        EXPECT_EQ(restored->vm.origin, saved->id);
        EXPECT_EQ(restored->vm.start_kind, "checkpoint");

        // And the restore can be undone.
        EXPECT_TRUE(restored->kept->automatic);
        auto undone =
            co_await ann->checkpoints().restore(named("web"), RestoreRequest{restored->kept->id, false});
        EXPECT_TRUE(undone);
        EXPECT_FALSE(undone->kept);
        EXPECT_EQ(memory("web"), "two");
        EXPECT_EQ(disk("web"), "second");
        EXPECT_EQ((co_await ann->checkpoints().list(named("web")))->size(), 2u);
        expect_no_remains();
        EXPECT_TRUE(co_await ann->destroy(named("web")));
        EXPECT_TRUE(fs::is_empty(checkpoints()));
        expect_nothing_left();
        co_await close();
    });
}

TEST_F(CheckpointsTest, AConnectionThatAPauseBreaksIsMadeAnewWheneverTheGuestRunsAgain) {
    script_->connection_outlives_pause = false;
    run([this]() -> Awaitable<void> {
        auto ann = co_await begin();
        auto web = vm_of(ann);
        std::uint32_t expected = script_->reconnects;
        const auto expect_one_more = [&](const char* after) {
            EXPECT_EQ(script_->reconnects, ++expected) << after;
            EXPECT_FALSE(script_->traffic_held) << after;
        };
        EXPECT_TRUE(co_await web->checkpoint(CheckpointRequest{}));
        expect_one_more("a checkpoint");
        script_->save_fails = Error{Errc::no_space, "disk full"};
        EXPECT_FALSE(co_await web->checkpoint(CheckpointRequest{}));
        script_->save_fails.reset();
        expect_one_more("a checkpoint that failed");
        EXPECT_TRUE(co_await web->pause());
        EXPECT_TRUE(co_await web->checkpoint(CheckpointRequest{}));
        EXPECT_EQ(script_->reconnects, expected) << "it stands still";
        EXPECT_TRUE(co_await web->resume());
        expect_one_more("a pause");
        EXPECT_TRUE(co_await web->pause());
        EXPECT_TRUE(co_await web->stop(StopMode::graceful));
        expect_one_more("a stop of a paused VM");
        co_await close();
    });
}

TEST_F(CheckpointsTest, OnlyTheFirstSaveWritesEverything) {
    run([this]() -> Awaitable<void> {
        using Kind = vmm::SnapshotKind;
        auto ann = co_await begin();
        auto web = vm_of(ann);
        EXPECT_TRUE(co_await web->checkpoint(CheckpointRequest{}));
        auto second = co_await web->checkpoint(CheckpointRequest{});
        EXPECT_TRUE(co_await ann->checkpoints().restore(named("web"), RestoreRequest{second->id, false}));
        EXPECT_TRUE(co_await web->checkpoint(CheckpointRequest{}));
        EXPECT_EQ(script_->saves, (std::vector{Kind::full, Kind::incremental, Kind::incremental}));
        // What it could start from was removed.
        const auto made = co_await ann->checkpoints().list(named("web"));
        for (const auto& one : *made) EXPECT_TRUE(co_await ann->checkpoints().remove(named("web"), one.id));
        EXPECT_TRUE(co_await web->checkpoint(CheckpointRequest{}));
        EXPECT_EQ(script_->saves.back(), Kind::full);
        script_->save_fails = Error{Errc::no_space, "disk full"};
        EXPECT_EQ((co_await web->checkpoint(CheckpointRequest{})).error().code, Errc::no_space);
        EXPECT_FALSE(stands_still("web"));
        script_->save_fails.reset();
        EXPECT_TRUE(co_await web->checkpoint(CheckpointRequest{}));
        EXPECT_EQ(script_->saves.back(), Kind::full);
        expect_no_remains();
        co_await close();
    });
}

TEST_F(CheckpointsTest, AreFoundByIdPrefixAndNameAndCanBeChanged) {
    run([this]() -> Awaitable<void> {
        auto ann = co_await begin();
        auto& all = ann->checkpoints();
        const VmName web = named("web");
        auto saved = co_await vm_of(ann)->checkpoint(CheckpointRequest{"a", "x"});
        EXPECT_EQ((co_await vm_of(ann)->checkpoint(CheckpointRequest{"a"})).error().code, Errc::conflict);
        EXPECT_EQ((co_await vm_of(ann)->checkpoint(CheckpointRequest{"../b"})).error().code, Errc::invalid);
        EXPECT_EQ((co_await all.info(web, saved->id.substr(0, 4)))->id, saved->id);
        EXPECT_EQ((co_await all.info(web, saved->id.substr(0, 3))).error().code, Errc::not_found);
        EXPECT_EQ((co_await all.info(named("other"), saved->id))->id, saved->id);
        EXPECT_EQ((co_await all.info(named("other"), "a")).error().what, "checkpoint 'a' not found");
        EXPECT_TRUE((co_await all.list(named("other")))->empty());
        auto changed = co_await all.change(web, "a", CheckpointChange{"b", ""});
        EXPECT_EQ(changed->name, "b");
        EXPECT_EQ(changed->label, "");
        ann.reset();
        co_await close();
        co_await open();
        ann = co_await tenant();
        auto info = co_await ann->checkpoints().info(web, "b");
        EXPECT_EQ(info->id, saved->id);
        EXPECT_GT(info->disk_used.value_or(0), 0u);
        EXPECT_EQ(info->obstacle, "");
        co_await close();
    });
}

// The hashes come on their own, also to what an earlier server could not finish, and nobody waits for them.
TEST_F(CheckpointsTest, EveryCheckpointGetsItsHashes) {
    run([this]() -> Awaitable<void> {
        auto ann = co_await begin();
        set_memory("web", "one");
        auto saved = co_await vm_of(ann)->checkpoint(CheckpointRequest{"a", "x"});
        const fs::path place = checkpoints() / "web" / saved->id;
        EXPECT_TRUE(co_await reached("hash:taken", 1));
        auto config = read_snapshot(place);
        EXPECT_TRUE(config->has_all_hashes());
        EXPECT_EQ(config->sha256.at("memory.snap"), content_hash(place / "memory.snap").value());
        EXPECT_EQ(config->label, "x");
        auto changed = co_await ann->checkpoints().change(named("web"), "a", CheckpointChange{"b", ""});
        EXPECT_EQ(changed->name, "b");
        EXPECT_TRUE(read_snapshot(place)->has_all_hashes()) << "the change keeps them";
        ann.reset();
        co_await close();

        config->sha256.clear();
        EXPECT_TRUE(write_snapshot_config(place, *config));
        co_await open();
        EXPECT_TRUE(co_await reached("hash:taken", 2));
        EXPECT_TRUE(read_snapshot(place)->has_all_hashes());
        co_await close();
    });
}

TEST_F(CheckpointsTest, PruneKeepsTheNewest) {
    run([this]() -> Awaitable<void> {
        auto ann = co_await begin();
        std::vector<std::string> ids;
        for (int i = 0; i < 4; ++i) ids.push_back((co_await vm_of(ann)->checkpoint(CheckpointRequest{}))->id);
        EXPECT_EQ((co_await ann->checkpoints().prune(named("web"), PruneRule{})).error().code, Errc::invalid);
        EXPECT_TRUE((co_await ann->checkpoints().prune(named("web"), PruneRule{.older_than = 1h}))->empty());
        EXPECT_TRUE(
            (co_await ann->checkpoints().prune(named("web"), PruneRule{.keep = 0, .automatic_only = true}))
                ->empty());
        auto gone = co_await ann->checkpoints().prune(named("web"), PruneRule{.keep = 1});
        EXPECT_EQ(gone->size(), 3u);
        auto left = co_await ann->checkpoints().list(named("web"));
        EXPECT_EQ(left->size(), 1u);
        EXPECT_EQ(left->front().id, ids.back());
        co_await close();
    });
}

TEST_F(CheckpointsTest, ACloneIsAMachineOfItsOwn) {
    run([this]() -> Awaitable<void> {
        auto ann = co_await begin();
        set_memory("web", "one");
        set_disk("web", "first");
        auto saved = co_await vm_of(ann)->checkpoint(CheckpointRequest{});
        auto clone = co_await ann->checkpoints().clone(named("web"), CloneRequest{saved->id, named("copy")});
        EXPECT_TRUE(clone) << clone.error().full();
        EXPECT_EQ(clone->state, State::running);
        EXPECT_EQ(clone->origin, saved->id);
        EXPECT_EQ(clone->memory, MiB{128});
        EXPECT_EQ(memory("copy"), "one");
        EXPECT_EQ(disk("copy"), "first");
        const proto::Identity& given = script_->identities.back();
        EXPECT_EQ(given.hostname, "copy");
        EXPECT_TRUE(given.end_sessions && given.new_boot_id && given.renew_ssh_host_keys);
        EXPECT_NE(given.machine_id, script_->identities.front().machine_id);
        EXPECT_NE(given.entropy, script_->identities.front().entropy);

        set_disk("copy", "mine!");
        EXPECT_EQ(disk("web"), "first");
        EXPECT_TRUE(co_await ann->checkpoints().remove(named("web"), saved->id));
        EXPECT_TRUE(co_await vm_of(ann, "copy")->suspend());
        EXPECT_TRUE(co_await vm_of(ann, "copy")->resume());
        EXPECT_EQ((co_await ann->checkpoints().clone(named("web"), CloneRequest{saved->id, named("late")}))
                      .error()
                      .code,
                  Errc::not_found);
        EXPECT_TRUE(co_await ann->destroy(named("copy")));
        EXPECT_TRUE(co_await ann->destroy(named("web")));
        expect_nothing_left();
        co_await close();
    });
}

TEST_F(CheckpointsTest, AForkMakesAllOrNone) {
    run([this]() -> Awaitable<void> {
        auto ann = co_await begin();
        set_memory("web", "one");
        auto made = co_await ann->checkpoints().fork(named("web"), ForkRequest{2});
        EXPECT_TRUE(made) << made.error().full();
        EXPECT_EQ(made->size(), 2u);
        EXPECT_EQ(memory("web-1"), "one");
        EXPECT_EQ(memory("web-2"), "one");
        EXPECT_TRUE((co_await ann->checkpoints().list(named("web")))->empty());
        std::vector<VmName> names;
        names.push_back(named("x"));
        names.push_back(named("web-1"));
        ForkRequest taken{names};
        auto again = co_await ann->checkpoints().fork(named("web"), taken);
        EXPECT_EQ(again.error().code, Errc::conflict);
        EXPECT_EQ(ann->list().size(), 3u);
        EXPECT_EQ(alive(), 3u);
        EXPECT_EQ((co_await ann->checkpoints().fork(named("web"), ForkRequest{3})).error().code,
                  Errc::limit_exceeded);
        EXPECT_EQ(ann->list().size(), 3u);
        EXPECT_TRUE((co_await ann->checkpoints().list(named("web")))->empty());
        EXPECT_FALSE(stands_still("web"));
        expect_no_remains();
        co_await close();
    });
}

TEST_F(CheckpointsTest, ASuspendedVmWakesWhenItIsUsed) {
    run([this]() -> Awaitable<void> {
        auto ann = co_await begin();
        auto web = vm_of(ann);
        set_memory("web", "one");
        EXPECT_TRUE(co_await web->suspend());
        EXPECT_TRUE(co_await web->suspend());
        EXPECT_EQ(web->view().state, State::suspended);
        EXPECT_EQ(alive(), 0u);
        EXPECT_EQ(script_->asleep, script_->slots) << "it keeps its address";
        EXPECT_EQ(web->view().address, "172.16.0.5");
        EXPECT_TRUE(co_await web->open(command()));
        EXPECT_EQ(web->view().state, State::running);
        EXPECT_EQ(memory("web"), "one");
        EXPECT_EQ(script_->slots.size(), 1u);
        EXPECT_TRUE(script_->asleep.empty());

        // Also by a later server, and saved again while it sleeps.
        EXPECT_TRUE(co_await web->suspend());
        auto asleep = co_await web->checkpoint(CheckpointRequest{});
        EXPECT_TRUE(asleep) << asleep.error().full();
        EXPECT_TRUE(asleep->has_memory);
        web.reset();
        ann.reset();
        co_await close();
        co_await open();
        ann = co_await tenant();
        web = vm_of(ann);
        EXPECT_EQ(web->view().state, State::suspended);
        EXPECT_EQ((co_await web->stop(StopMode::graceful)).error().code, Errc::conflict);
        EXPECT_TRUE(co_await web->ready(60s));
        EXPECT_EQ(memory("web"), "one");

        // A wake that does not work leaves it as it was.
        EXPECT_TRUE(co_await web->suspend());
        script_->restore_fails = Error{Errc::internal, "no"};
        EXPECT_FALSE(co_await web->resume());
        EXPECT_EQ(web->view().state, State::suspended);
        EXPECT_EQ(script_->asleep.size(), 1u);
        script_->restore_fails.reset();
        EXPECT_TRUE(co_await web->resume());
        EXPECT_EQ(memory("web"), "one");

        // Memory given up: it boots.
        EXPECT_TRUE(co_await web->suspend());
        EXPECT_TRUE(co_await web->stop(StopMode::force));
        EXPECT_TRUE(script_->slots.empty());
        EXPECT_TRUE(co_await web->start());
        EXPECT_EQ(memory("web"), "booted");
        expect_no_remains();
        co_await close();
    });
}

// Waits until the VM is in that state.
Awaitable<bool> comes_to(std::shared_ptr<Vm> vm, State wanted) {
    asio::steady_timer timer{co_await asio::this_coro::executor};
    for (int i = 0; i < 6000 && vm->view().state != wanted; ++i) {
        timer.expires_after(10ms);
        co_await timer.async_wait(asio::use_awaitable);
    }
    co_return vm->view().state == wanted;
}

TEST_F(CheckpointsTest, WhoeverSendsToItsAddressWakesASuspendedVm) {
    run([this]() -> Awaitable<void> {
        auto ann = co_await begin();
        auto web = vm_of(ann);
        set_memory("web", "one");
        EXPECT_TRUE(co_await web->suspend());
        const std::string id = *script_->asleep.begin();
        script_->knock("of no VM here");
        script_->knock(id);
        script_->knock(id);
        EXPECT_TRUE(co_await comes_to(web, State::running));
        EXPECT_EQ(memory("web"), "one");
        EXPECT_TRUE(script_->asleep.empty());
        EXPECT_EQ(script_->processes.size(), 2u) << "once";

        // The server ends while it sleeps; the next one knows whom to watch over.
        EXPECT_TRUE(co_await web->suspend());
        web.reset();
        ann.reset();
        co_await close();
        script_->asleep.clear();
        EXPECT_FALSE(script_->knock);
        co_await open();
        ann = co_await tenant();
        web = vm_of(ann);
        EXPECT_EQ(script_->slots, std::set<std::string>{id}) << "not taken for leaked";
        EXPECT_EQ(script_->asleep, script_->slots);
        EXPECT_EQ(web->view().address, "172.16.0.5");
        script_->knock(id);
        EXPECT_TRUE(co_await comes_to(web, State::running));

        // Another place on the network when its own is gone.
        EXPECT_TRUE(co_await web->suspend());
        script_->slots.clear();
        script_->asleep.clear();
        script_->lose(id);
        script_->knock(id);  // after it, on the same strand
        EXPECT_TRUE(co_await comes_to(web, State::running));
        EXPECT_EQ(script_->slots, std::set<std::string>{id});
        expect_no_remains();
        co_await close();
    });
}

TEST_F(CheckpointsTest, AStoppedVmIsSavedAsItsDisk) {
    run([this]() -> Awaitable<void> {
        auto ann = co_await begin();
        auto web = vm_of(ann);
        EXPECT_TRUE(co_await web->stop(StopMode::graceful));
        set_disk("web", "first");
        auto saved = co_await web->checkpoint(CheckpointRequest{});
        EXPECT_TRUE(saved) << saved.error().full();
        EXPECT_FALSE(saved->has_memory);
        set_disk("web", "second");
        auto restored = co_await ann->checkpoints().restore(named("web"), RestoreRequest{saved->id, false});
        EXPECT_TRUE(restored) << restored.error().full();
        EXPECT_EQ(restored->vm.state, State::running);
        EXPECT_EQ(disk("web"), "first");
        EXPECT_EQ(memory("web"), "booted");
        EXPECT_TRUE(co_await ann->checkpoints().clone(named("web"), CloneRequest{saved->id, named("copy")}));
        EXPECT_EQ(disk("copy"), "first");
        co_await close();
    });
}

TEST_F(CheckpointsTest, AFailureAtAnyStepLeavesTheVmRunning) {
    run([this]() -> Awaitable<void> {
        auto ann = co_await begin();
        auto web = vm_of(ann);
        auto base = co_await web->checkpoint(CheckpointRequest{});
        for (const char* step : {"checkpoint:journalled", "save:paused", "checkpoint:saved"}) {
            script_->fail_at = step;
            EXPECT_FALSE(co_await web->checkpoint(CheckpointRequest{})) << step;
            EXPECT_FALSE(stands_still("web")) << step;
        }
        for (const char* step : {"save:paused", "suspend:saved"}) {
            script_->fail_at = step;
            EXPECT_FALSE(co_await web->suspend()) << step;
            EXPECT_EQ(web->view().state, State::running) << step;
            EXPECT_FALSE(stands_still("web")) << step;
        }
        set_memory("web", "now");
        for (const char* step :
             {"restore:journalled", "restore:prepared", "save:paused", "restore:switching"}) {
            script_->fail_at = step;
            EXPECT_FALSE(co_await ann->checkpoints().restore(named("web"), RestoreRequest{base->id, true}))
                << step;
            EXPECT_EQ(web->view().state, State::running) << step;
            EXPECT_FALSE(stands_still("web")) << step;
            EXPECT_EQ(memory("web"), "now") << step;
        }
        for (const char* step : {"create:prepared", "wake:loaded", "wake:resumed", "create:answered"}) {
            script_->fail_at = step;
            EXPECT_FALSE(
                co_await ann->checkpoints().clone(named("web"), CloneRequest{base->id, named("copy")}))
                << step;
            EXPECT_FALSE(co_await ann->checkpoints().fork(named("web"), ForkRequest{2})) << step;
            EXPECT_EQ(ann->list().size(), 1u) << step;
            EXPECT_EQ(alive(), 1u) << step;
        }
        script_->fail_at.clear();
        expect_no_remains();
        co_await close();
    });
}

// --- the server is killed at a step ------------------------------------------------------------------

// Whatever was going on: afterwards the VM can be used, every checkpoint that is listed works, and nothing
// stray is left.
class KilledAt : public CheckpointsTest, public ::testing::WithParamInterface<const char*> {
  protected:
    enum class Operation : std::uint8_t { checkpoint, suspend, wake, restore, fork };

    static Operation operation_of(std::string_view step, std::string_view during) {
        if (step.starts_with("checkpoint:") || during == "checkpoint") return Operation::checkpoint;
        if (step.starts_with("suspend:") || during == "suspend") return Operation::suspend;
        if (step.starts_with("fork:") || during == "fork") return Operation::fork;
        if (step.starts_with("wake:") && during != "restore") return Operation::wake;
        return Operation::restore;
    }
};

TEST_P(KilledAt, EverythingWorksAfterwards) {
    // "step" or "step/operation"
    const std::string_view parameter{GetParam()};
    const auto slash = parameter.find('/');
    const std::string step{parameter.substr(0, slash)};
    const std::string_view during = slash == std::string_view::npos ? "" : parameter.substr(slash + 1);
    const Operation operation = operation_of(step, during);
    run([this]() -> Awaitable<void> {
        auto ann = co_await begin();
        auto saved = co_await vm_of(ann)->checkpoint(CheckpointRequest{"base"});
        EXPECT_TRUE(saved) << saved.error().full();
        ann.reset();
        co_await close();
    });
    const bool killed = run_until_killed_at(step, [this, operation]() -> Awaitable<void> {
        co_await open();
        auto ann = co_await tenant();
        switch (operation) {
            case Operation::checkpoint:
                (void)co_await vm_of(ann)->checkpoint(CheckpointRequest{});
                break;
            case Operation::suspend:
                (void)co_await vm_of(ann)->suspend();
                break;
            case Operation::wake:
                (void)co_await vm_of(ann)->suspend();
                (void)co_await vm_of(ann)->resume();
                break;
            case Operation::restore:
                (void)co_await ann->checkpoints().restore(named("web"), RestoreRequest{"base", true});
                break;
            case Operation::fork:
                (void)co_await ann->checkpoints().fork(named("web"), ForkRequest{2});
                break;
        }
    });
    EXPECT_TRUE(killed) << "never came to " << step;
    run([this]() -> Awaitable<void> {
        co_await open();
        auto ann = co_await tenant();
        EXPECT_EQ(ann->list().size(), 1u);
        auto web = vm_of(ann);
        auto usable = co_await web->ready(60s);
        EXPECT_TRUE(usable) << usable.error().full();
        EXPECT_FALSE(stands_still("web"));
        EXPECT_EQ(processes_in(*warden_, directory_of("web"))->size(), 1u);
        expect_no_remains();
        const auto listed = co_await ann->checkpoints().list(named("web"));
        for (const auto& one : *listed) {
            auto restored = co_await ann->checkpoints().restore(named("web"), RestoreRequest{one.id, false});
            EXPECT_TRUE(restored) << restored.error().full();
        }
        EXPECT_TRUE(co_await web->checkpoint(CheckpointRequest{}));
        EXPECT_TRUE(co_await ann->destroy(named("web")));
        EXPECT_TRUE(fs::is_empty(checkpoints()));
        EXPECT_TRUE(fs::is_empty(user_directory() / "vms"));
        co_await close();
    });
}

INSTANTIATE_TEST_SUITE_P(EveryStep, KilledAt,
                         ::testing::Values("checkpoint:journalled", "save:paused/checkpoint",
                                           "checkpoint:saved", "checkpoint:published", "save:paused/suspend",
                                           "suspend:saved", "suspend:ended", "suspend:settled", "wake:loaded",
                                           "wake:resumed", "restore:journalled", "restore:prepared",
                                           "restore:switching", "restore:ended", "restore:switched",
                                           "wake:loaded/restore", "wake:resumed/restore",
                                           "create:prepared/fork", "create:answered/fork", "fork:made"));

}  // namespace
}  // namespace noid::vm
