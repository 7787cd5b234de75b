#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <fstream>

#include "store/tenant_database.hpp"
#include "vm/testing/engine_world.hpp"

namespace noid::vm {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

using RestartTest = EngineWorld;

TEST_F(RestartTest, ARestartTakesRunningVmsOver) {
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

TEST_F(RestartTest, AStartWithoutItsPrivilegedPartTakesNoVmForDead) {
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

TEST_F(RestartTest, ASecondServerIsToldWhoHasTheDirectory) {
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
TEST_F(RestartTest, WhatAKilledServerWasAboutToStartDoesNotKeepItsDirectory) {
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

}  // namespace
}  // namespace noid::vm
