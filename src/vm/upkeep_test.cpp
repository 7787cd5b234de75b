// What an operator does with a data directory: golden, fsck.
#include <gtest/gtest.h>

#include <fstream>

#include "vm/fsck.hpp"
#include "vm/golden.hpp"
#include "vm/testing/engine_world.hpp"

namespace noid::vm {
namespace {

namespace fs = std::filesystem;

VmName named(const char* text) {
    return VmName::parse(text).value();
}

class UpkeepTest : public EngineWorld {
  protected:
    // A VM "web" with a checkpoint, and the server gone again. Gives the checkpoint's id.
    Awaitable<std::string> prepare() {
        co_await open();
        auto ann = co_await tenant();
        EXPECT_TRUE(co_await ann->create(request("web")));
        auto saved = co_await ann->find(named("web")).value()->checkpoint(CheckpointRequest{"good"});
        EXPECT_TRUE(saved);
        ann.reset();
        co_await close();
        co_return saved->id;
    }
    [[nodiscard]] const fs::path& data() const { return config_.paths.data_dir; }
    std::vector<Finding> examined(FsckMode mode) {
        auto findings = fsck(data(), *warden_, mode);
        EXPECT_TRUE(findings) << findings.error().full();
        return findings.value_or(std::vector<Finding>{});
    }
};

TEST_F(UpkeepTest, GoldenIsPromotedRolledBackAndCleared) {
    std::string first;
    std::string second;
    run([&]() -> Awaitable<void> { first = co_await prepare(); });
    {
        auto golden = Golden::open(data()).value();
        EXPECT_EQ(Golden::open(data()).error().code, Errc::conflict);
        EXPECT_FALSE(golden.status()->present);
        EXPECT_EQ(golden.promote("0123456789abcdef").error().code, Errc::not_found);
        EXPECT_EQ(golden.promote("../../x").error().code, Errc::invalid);
        EXPECT_EQ(golden.rollback().error().code, Errc::not_found);
        EXPECT_EQ(golden.promote(first)->id, first);
        EXPECT_EQ(golden.status()->present->vm_name, "");
    }
    run([&]() -> Awaitable<void> {
        co_await open();
        auto ann = co_await tenant();
        auto made = co_await ann->create(request("from-golden"));
        EXPECT_TRUE(made) << made.error().full();
        EXPECT_EQ(made->vm.start_kind, "golden");
        CreateRequest larger = request("larger");
        larger.memory = MiB{192};
        EXPECT_EQ((co_await ann->create(larger))->vm.start_kind, "boot");
        second = (co_await ann->find(named("web")).value()->checkpoint(CheckpointRequest{}))->id;
        co_await close();
    });
    auto golden = Golden::open(data()).value();
    EXPECT_EQ(golden.promote(second)->id, second);
    EXPECT_EQ(golden.status()->previous->id, first);
    EXPECT_EQ(golden.rollback()->id, first);
    EXPECT_EQ(golden.status()->present->id, first);
    EXPECT_EQ(golden.status()->previous->id, second);
    EXPECT_TRUE(golden.clear());
    EXPECT_FALSE(golden.status()->present);
    EXPECT_EQ(golden.rollback()->id, first);
}

TEST_F(UpkeepTest, ACheckpointThatWasDueWhileNoServerRanIsMadeAtOnce) {
    using namespace std::chrono_literals;
    std::string id;
    run([&]() -> Awaitable<void> {
        id = co_await prepare();
        co_await open();
        auto ann = co_await tenant();
        VmPolicy hourly;
        hourly.checkpoint_every = 1h;
        EXPECT_TRUE(co_await ann->find(named("web")).value()->set_policy(hourly));
        ann.reset();
        co_await close();
    });
    // It becomes one that the timer made two hours ago.
    const fs::path place = user_directory() / "checkpoints/web" / id;
    auto config = read_snapshot(place).value();
    config.automatic = true;
    config.label = "timer";
    config.created_us -= std::chrono::microseconds{2h}.count();
    ASSERT_TRUE(write_snapshot_config(place, config));
    run([this]() -> Awaitable<void> {
        co_await open();
        auto ann = co_await tenant();
        const auto deadline = std::chrono::steady_clock::now() + 20s;
        std::size_t made = 1;
        while (made == 1 && std::chrono::steady_clock::now() < deadline) {
            // What a server does by itself tells nobody when it is done.
            asio::steady_timer timer{co_await asio::this_coro::executor, 20ms};
            co_await timer.async_wait(asio::use_awaitable);
            made = (co_await ann->checkpoints().list(named("web")))->size();
        }
        EXPECT_EQ(made, 2u);
        ann.reset();
        co_await close();
    });
}

// Images and memory of the sizes that their descriptions say, and no hashes yet.
void give_sizes(const fs::path& directory) {
    auto config = read_snapshot(directory).value();
    config.sha256.clear();
    ASSERT_TRUE(write_snapshot_config(directory, config));
    fs::permissions(directory / "memory.snap", fs::perms::owner_all);
    fs::resize_file(directory / "memory.snap", MiB{128}.bytes());
}

TEST_F(UpkeepTest, FsckFindsNothingWhereNothingIs) {
    std::string id;
    run([&]() -> Awaitable<void> { id = co_await prepare(); });
    give_sizes(user_directory() / "checkpoints" / "web" / id);
    for (const FsckMode mode : {FsckMode::look, FsckMode::repair, FsckMode::look}) {
        for (const Finding& finding : examined(mode)) ADD_FAILURE() << finding.place << ": " << finding.what;
    }
}

TEST_F(UpkeepTest, FsckRemovesRemainsAndSetsDamagedCheckpointsAside) {
    std::string id;
    run([&]() -> Awaitable<void> { id = co_await prepare(); });
    const fs::path checkpoint = user_directory() / "checkpoints" / "web" / id;
    give_sizes(checkpoint);
    EXPECT_TRUE(examined(FsckMode::repair).empty()) << "hashes are taken";
    const fs::path vms = user_directory() / "vms";
    for (const fs::path& left : {vms / ".trash-1", vms / "half", user_directory() / "checkpoints" / ".new-1",
                                 data() / "templates" / ".new-1"}) {
        fs::create_directory(left);
    }
    std::ofstream{vms / "web" / "saving.memory"} << "half";
    std::fstream{checkpoint / "memory.snap", std::ios::in | std::ios::out} << "damaged";

    const auto found = examined(FsckMode::look);
    EXPECT_EQ(found.size(), 6u);
    for (const Finding& finding : found) EXPECT_EQ(finding.done, "") << finding.place;
    EXPECT_TRUE(fs::exists(checkpoint));
    EXPECT_EQ(examined(FsckMode::repair).size(), 6u);
    EXPECT_TRUE(examined(FsckMode::look).empty());
    EXPECT_FALSE(fs::exists(checkpoint));
    EXPECT_EQ(std::distance(fs::directory_iterator{data() / "lost+found"}, {}), 1);
    run([this]() -> Awaitable<void> {
        co_await open();
        auto ann = co_await tenant();
        EXPECT_EQ(ann->list().front().state, State::running);
        EXPECT_EQ(fsck(data(), *warden_, FsckMode::look).error().code, Errc::conflict);
        EXPECT_TRUE((co_await ann->checkpoints().list(named("web")))->empty());
        co_await close();
    });
}

}  // namespace
}  // namespace noid::vm
