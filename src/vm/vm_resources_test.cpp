// What a VM's owner changes of its machine, and how long it holds; and machines of before there were layouts.
#include <gtest/gtest.h>

#include <fstream>

#include "base/file.hpp"
#include "vm/snapshot.hpp"
#include "vm/testing/engine_world.hpp"

namespace noid::vm {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

class VmResourcesTest : public EngineWorld {
  protected:
    static CreateRequest wanted(const char* name) {
        CreateRequest request = EngineWorld::request(name);
        request.memory = MiB{256};
        return request;
    }
    [[nodiscard]] static VmName named(const char* name) { return VmName::parse(name).value(); }
    // What the newest machine has.
    [[nodiscard]] pid_t newest() const { return script_->processes.back().pid; }
    [[nodiscard]] const vmm::MachineSpec& spec() const { return script_->specs.at(newest()); }
    [[nodiscard]] fs::path vm_file(const char* file) const { return user_directory() / "vms" / "a" / file; }
    static ResourceChange balloon_of(MiB size) {
        ResourceChange change;
        change.balloon = size;
        return change;
    }
    static ResourceChange bandwidth_of(std::uint64_t bytes) {
        ResourceChange change;
        change.disk_bytes_per_second = bytes;
        return change;
    }
    // Makes a snapshot's description one of before there were layouts.
    static void forget_layout(const fs::path& directory) {
        auto config = read_snapshot(directory);
        ASSERT_TRUE(config) << config.error().full();
        config->layout = 0;
        auto text = config->to_json();
        const std::string said = R"("layout":0,)";
        text.erase(text.find(said), said.size());
        std::ofstream{directory / config_file} << text;
    }
    [[nodiscard]] fs::path checkpoint_place(const std::string& id) const {
        return user_directory() / "checkpoints" / "a" / id;
    }
};

TEST_F(VmResourcesTest, HoldWhileItRunsAndAfterEveryWake) {
    config_.limits.disk_ops_per_second = 500;
    run([this]() -> Awaitable<void> {
        co_await open();
        auto ann = co_await tenant();
        auto request = wanted("a");
        request.resources.disk_bytes_per_second = 1'000'000;
        const auto made = co_await ann->create(request);
        EXPECT_TRUE(made) << made.error().full();
        const vmm::DiskLimit first{1'000'000, 500};
        EXPECT_EQ(made->vm.resources.disk, first);
        EXPECT_EQ(spec().disk_limit, first);
        EXPECT_EQ(spec().layout, vmm::newest_layout);

        auto vm = ann->find(named("a")).value();
        auto change = balloon_of(MiB{64});
        change.disk_bytes_per_second = 2'000'000;
        EXPECT_TRUE(co_await vm->set_resources(change));
        const vmm::DiskLimit second{2'000'000, 500};
        EXPECT_EQ(script_->balloons.at(newest()), MiB{64});
        EXPECT_EQ(script_->disk_limits.at(newest()), second);
        EXPECT_EQ(vm->view().resources.balloon, MiB{64});
        const auto details = co_await vm->details();
        EXPECT_EQ(details->guest_memory->balloon, MiB{64}.bytes());
        EXPECT_EQ(details->devices->disk_read_bytes, 1234U);

        // Another server process.
        vm.reset();
        ann.reset();
        co_await close();
        co_await open();
        ann = co_await tenant();
        vm = ann->find(named("a")).value();
        EXPECT_EQ(vm->view().resources.disk, second);

        // It wakes with them; the snapshot has the balloon.
        EXPECT_TRUE(co_await vm->suspend());
        EXPECT_TRUE(co_await vm->resume());
        EXPECT_EQ(spec().disk_limit, second);
        EXPECT_EQ(spec().saved_disk_limit, second);
        EXPECT_FALSE(script_->balloons.contains(newest()));

        // It boots with them.
        EXPECT_TRUE(co_await vm->stop(StopMode::force));
        EXPECT_TRUE(co_await vm->set_resources(balloon_of(MiB{32})));
        EXPECT_TRUE(co_await vm->start());
        EXPECT_EQ(spec().disk_limit, second);
        EXPECT_EQ(spec().balloon, MiB{32});

        // What is changed after the save holds after the restore.
        const auto saved = co_await vm->checkpoint(CheckpointRequest{});
        EXPECT_TRUE(saved);
        change = balloon_of(MiB{0});
        change.disk_bytes_per_second = 3'000'000;
        EXPECT_TRUE(co_await vm->set_resources(change));
        vm.reset();
        EXPECT_TRUE(co_await ann->checkpoints().restore(named("a"), RestoreRequest{saved->id}));
        const vmm::DiskLimit third{3'000'000, 500};
        EXPECT_EQ(spec().disk_limit, third);
        EXPECT_EQ(spec().saved_disk_limit, second);
        EXPECT_EQ(script_->balloons.at(newest()), MiB{0});
        ann.reset();
        co_await close();
    });
}

TEST_F(VmResourcesTest, WhatIsRefusedChangesNothing) {
    config_.limits.max_disk_bytes_per_second = 5'000'000;
    run([this]() -> Awaitable<void> {
        co_await open();
        auto ann = co_await tenant();
        auto request = wanted("b");
        request.resources.disk_bytes_per_second = 6'000'000;
        EXPECT_EQ((co_await ann->create(request)).error().code, Errc::limit_exceeded);
        EXPECT_TRUE(co_await ann->create(wanted("a")));
        auto vm = ann->find(named("a")).value();
        const Resources before = vm->view().resources;
        EXPECT_EQ(before.disk.bytes_per_second, 5'000'000U);
        EXPECT_EQ((co_await vm->set_resources(balloon_of(MiB{193}))).error().code, Errc::invalid);
        EXPECT_EQ((co_await vm->set_resources(bandwidth_of(0))).error().code, Errc::limit_exceeded);
        EXPECT_EQ((co_await vm->set_resources(bandwidth_of(17))).error().code, Errc::invalid);
        script_->balloon_fails = Error{Errc::internal, "no"};
        auto both = balloon_of(MiB{64});
        both.disk_bytes_per_second = 1'000'000;
        EXPECT_EQ((co_await vm->set_resources(both)).error().code, Errc::internal);
        EXPECT_EQ(vm->view().resources, before);
        EXPECT_EQ(script_->disk_limits.at(newest()), before.disk) << "taken back";
        vm.reset();
        ann.reset();
        co_await close();
    });
}

TEST_F(VmResourcesTest, ACloneBeginsWithThem) {
    run([this]() -> Awaitable<void> {
        co_await open();
        auto ann = co_await tenant();
        EXPECT_TRUE(co_await ann->create(wanted("a")));
        auto vm = ann->find(named("a")).value();
        auto change = balloon_of(MiB{64});
        change.disk_bytes_per_second = 1'000'000;
        EXPECT_TRUE(co_await vm->set_resources(change));
        const auto saved = co_await vm->checkpoint(CheckpointRequest{});
        EXPECT_TRUE(saved);
        CloneRequest as{saved->id, named("clone")};
        EXPECT_TRUE(co_await ann->checkpoints().clone(named("a"), as));
        EXPECT_EQ(spec().disk_limit.bytes_per_second, 1'000'000U);
        EXPECT_EQ(ann->find(named("clone")).value()->view().resources, vm->view().resources);
        vm.reset();
        ann.reset();
        co_await close();
    });
}

// What an earlier server left: snapshots whose machines have no balloon, and do not say so.
TEST_F(VmResourcesTest, ASnapshotOfBeforeWakesWithTheDevicesOfThen) {
    run([this]() -> Awaitable<void> {
        co_await open();
        auto ann = co_await tenant();
        EXPECT_TRUE(co_await ann->create(wanted("a")));
        auto vm = ann->find(named("a")).value();
        const auto saved = co_await vm->checkpoint(CheckpointRequest{});
        EXPECT_TRUE(saved);
        EXPECT_TRUE(co_await vm->suspend());
        vm.reset();
        ann.reset();
        co_await close();
        forget_layout(checkpoint_place(saved->id));
        forget_layout(user_directory() / "vms" / "a");

        co_await open();
        ann = co_await tenant();
        vm = ann->find(named("a")).value();
        EXPECT_TRUE(co_await vm->resume());
        EXPECT_EQ(spec().layout, 0U);
        const auto refused = co_await vm->set_resources(balloon_of(MiB{64}));
        EXPECT_EQ(refused.error().code, Errc::unsupported);
        EXPECT_TRUE(co_await vm->set_resources(bandwidth_of(1'000'000)));
        EXPECT_FALSE((co_await vm->details())->guest_memory);

        // What is saved of it says the same, also by another server process.
        vm.reset();
        ann.reset();
        co_await close();
        co_await open();
        ann = co_await tenant();
        vm = ann->find(named("a")).value();
        const auto again = co_await vm->checkpoint(CheckpointRequest{});
        EXPECT_TRUE(again);
        EXPECT_EQ(read_snapshot(checkpoint_place(again->id))->layout, 0U);
        CloneRequest as{saved->id, named("clone")};
        EXPECT_TRUE(co_await ann->checkpoints().clone(named("a"), as));
        EXPECT_EQ(spec().layout, 0U);

        // A boot makes it a machine of now.
        EXPECT_TRUE(co_await vm->stop(StopMode::force));
        EXPECT_TRUE(co_await vm->start());
        EXPECT_EQ(spec().layout, vmm::newest_layout);
        EXPECT_TRUE(co_await vm->set_resources(balloon_of(MiB{64})));

        // Put back to that checkpoint, it has no balloon again, and says so.
        vm.reset();
        EXPECT_TRUE(co_await ann->checkpoints().restore(named("a"), RestoreRequest{saved->id}));
        EXPECT_EQ(spec().layout, 0U);
        const auto view = ann->find(named("a")).value()->view();
        EXPECT_EQ(view.warnings,
                  std::vector<std::string>{"its balloon is not in force: the snapshot was made without one"});
        ann.reset();
        co_await close();
    });
}

// Templates of before there were layouts go on being used.
TEST_F(VmResourcesTest, ATemplateOfBeforeStaysGood) {
    config_.storage.template_budget = MiB{64};
    run([this]() -> Awaitable<void> {
        co_await open();
        auto ann = co_await tenant();
        EXPECT_TRUE(co_await ann->create(wanted("a")));
        ann.reset();
        co_await close();
        for (const auto& entry : fs::directory_iterator{config_.paths.data_dir / "templates"})
            forget_layout(entry.path());
        co_await open();
        ann = co_await tenant();
        const auto made = co_await ann->create(wanted("b"));
        EXPECT_TRUE(made) << made.error().full();
        EXPECT_EQ(made->vm.start_kind, "template");
        EXPECT_EQ(spec().layout, 0U);
        ann.reset();
        co_await close();
    });
}

}  // namespace
}  // namespace noid::vm
