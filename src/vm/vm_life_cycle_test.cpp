#include <unistd.h>

#include <csignal>

#include "vm/testing/engine_world.hpp"

namespace noid::vm {
namespace {

using namespace std::chrono_literals;

using VmLifeCycleTest = EngineWorld;

TEST_F(VmLifeCycleTest, StopsStartsPausesAndResumes) {
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

TEST_F(VmLifeCycleTest, AStartThatFailsIsUndone) {
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

TEST_F(VmLifeCycleTest, AVmmThatDiesIsNoticedAndOthersRunOn) {
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

TEST_F(VmLifeCycleTest, AGuestThatPowersItselfOffIsStopped) {
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

TEST_F(VmLifeCycleTest, TheConsoleIsKeptAndFollowed) {
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

}  // namespace
}  // namespace noid::vm
