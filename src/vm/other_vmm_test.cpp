// What becomes of VMs when the server is started with another VMM.
#include <gtest/gtest.h>

#include <csignal>

#include "vm/testing/engine_world.hpp"

namespace noid::vm {
namespace {

using namespace std::chrono_literals;

class OtherVmmTest : public EngineWorld {
  protected:
    // A VM "web" made under QEMU, prepared, and then a server with Firecracker.
    Awaitable<std::shared_ptr<Vm>> change_after(std::function<Awaitable<Result<void>>(Vm&)> prepare) {
        co_await open();
        auto ann = co_await tenant();
        auto created = co_await ann->create(request("web"));
        if (!created) throw std::runtime_error{created.error().full()};
        auto prepared = co_await prepare(*ann->find(name_).value());
        if (!prepared) throw std::runtime_error{prepared.error().full()};
        ann.reset();
        co_return co_await restart_with(vmm::Kind::firecracker);
    }

    Awaitable<std::shared_ptr<Vm>> restart_with(vmm::Kind kind) {
        co_await close();
        script_->vmm_kind = kind;
        co_await open();
        auto ann = co_await tenant();
        co_return ann->find(name_).value();
    }

    Awaitable<bool> reaches(std::shared_ptr<Vm> vm, State state) {
        for (int i = 0; i < 500 && vm->view().state != state; ++i) {
            asio::steady_timer timer{loop_, 10ms};
            co_await timer.async_wait(asio::use_awaitable);
        }
        co_return vm->view().state == state;
    }

    const VmName name_ = VmName::parse("web").value();
};

TEST_F(OtherVmmTest, ARunningVmIsLeftAloneUntilItsVmmIsBack) {
    run([this]() -> Awaitable<void> {
        auto nothing = [](Vm&) -> Awaitable<Result<void>> { co_return Result<void>{}; };
        auto vm = co_await change_after(nothing);
        EXPECT_EQ(alive(), 1u);
        EXPECT_EQ(vm->view().state, State::running);
        EXPECT_EQ(vm->view().vmm, "qemu");
        EXPECT_NE(vm->view().reason.find("runs under qemu, and this server drives firecracker"),
                  std::string::npos)
            << vm->view().reason;
        EXPECT_EQ((co_await vm->ready(1s)).error().code, Errc::unavailable);
        EXPECT_EQ((co_await vm->pause()).error().code, Errc::unavailable);
        EXPECT_EQ((co_await vm->suspend()).error().code, Errc::unavailable);
        EXPECT_EQ((co_await vm->stop(StopMode::graceful)).error().code, Errc::unavailable);
        auto saved = co_await vm->checkpoint(CheckpointRequest{});
        EXPECT_EQ(saved.error().code, Errc::unavailable);

        vm.reset();
        vm = co_await restart_with(vmm::Kind::qemu);
        EXPECT_TRUE(co_await vm->ready(1s));
        EXPECT_EQ(vm->view().reason, "");
        vm.reset();
        co_await close();
    });
}

TEST_F(OtherVmmTest, ARunningVmCanBeForcedOver) {
    run([this]() -> Awaitable<void> {
        auto nothing = [](Vm&) -> Awaitable<Result<void>> { co_return Result<void>{}; };
        auto vm = co_await change_after(nothing);
        EXPECT_TRUE(co_await vm->stop(StopMode::force));
        EXPECT_EQ(alive(), 0u);
        EXPECT_EQ(vm->view().state, State::stopped);
        EXPECT_TRUE(co_await vm->start());
        EXPECT_EQ(vm->view().vmm, "firecracker");
        EXPECT_TRUE(co_await vm->ready(1s));

        // It is one of this VMM from now on.
        vm.reset();
        vm = co_await restart_with(vmm::Kind::firecracker);
        EXPECT_TRUE(co_await vm->ready(1s));
        vm.reset();
        co_await close();
    });
}

TEST_F(OtherVmmTest, TheEndOfARunningVmIsSeen) {
    run([this]() -> Awaitable<void> {
        auto nothing = [](Vm&) -> Awaitable<Result<void>> { co_return Result<void>{}; };
        auto vm = co_await change_after(nothing);
        ::kill(script_->processes.front().pid, SIGKILL);
        EXPECT_TRUE(co_await reaches(vm, State::dead));
        EXPECT_TRUE(script_->slots.empty());
        EXPECT_TRUE(co_await vm->start());
        EXPECT_EQ(vm->view().vmm, "firecracker");
        vm.reset();
        co_await close();
    });
}

TEST_F(OtherVmmTest, AStoppedVmBootsUnderTheNewOne) {
    run([this]() -> Awaitable<void> {
        auto stop = [](Vm& vm) -> Awaitable<Result<void>> { co_return co_await vm.stop(StopMode::force); };
        auto vm = co_await change_after(stop);
        EXPECT_EQ(vm->view().reason, "");
        EXPECT_TRUE(co_await vm->start());
        EXPECT_EQ(vm->view().vmm, "firecracker");
        vm.reset();
        co_await close();
    });
}

TEST_F(OtherVmmTest, ASuspendedVmSaysWhyItDoesNotWakeAndLosesNothing) {
    run([this]() -> Awaitable<void> {
        auto suspend = [](Vm& vm) -> Awaitable<Result<void>> { co_return co_await vm.suspend(); };
        auto vm = co_await change_after(suspend);
        const std::string why = "it was saved by qemu, and this server runs firecracker";
        EXPECT_EQ(vm->view().state, State::suspended);
        EXPECT_NE(vm->view().reason.find("it cannot wake: " + why), std::string::npos) << vm->view().reason;
        auto woken = co_await vm->resume();
        EXPECT_EQ(woken.error().code, Errc::unsupported);
        EXPECT_NE(woken.error().what.find(why), std::string::npos);
        EXPECT_EQ((co_await vm->ready(1s)).error().code, Errc::unsupported);
        EXPECT_EQ(vm->view().state, State::suspended);
        EXPECT_TRUE(std::filesystem::exists(user_directory() / "vms" / "web" / "memory.snap"));
        EXPECT_EQ(alive(), 0u);

        vm.reset();
        vm = co_await restart_with(vmm::Kind::qemu);
        EXPECT_EQ(vm->view().reason, "");
        EXPECT_TRUE(co_await vm->resume());
        EXPECT_EQ(vm->view().start_kind, "suspension");

        // Or its memory is given up.
        EXPECT_TRUE(co_await vm->suspend());
        vm.reset();
        vm = co_await restart_with(vmm::Kind::firecracker);
        EXPECT_TRUE(co_await vm->stop(StopMode::force));
        EXPECT_TRUE(co_await vm->start());
        EXPECT_EQ(vm->view().vmm, "firecracker");
        vm.reset();
        co_await close();
    });
}

}  // namespace
}  // namespace noid::vm
