// Checkpoints that are taken in: what their sender could have made up, and how much space they take.
#include <gtest/gtest.h>

#include <fstream>

#include "base/random.hpp"
#include "vm/snapshot.hpp"
#include "vm/testing/engine_world.hpp"

namespace noid::vm {
namespace {

namespace fs = std::filesystem;

VmName named(const char* text) {
    return VmName::parse(text).value();
}

class ImportTest : public EngineWorld {
  protected:
    using Change = void (*)(SnapshotConfig&);

    // A user who has nothing but an exported checkpoint, of which `change` has changed the description.
    Awaitable<std::string> exported(Change change) {
        co_await open();
        auto ann = co_await tenant();
        EXPECT_TRUE(co_await ann->create(request("web")));
        auto saved = co_await ann->find(named("web")).value()->checkpoint(CheckpointRequest{});
        EXPECT_TRUE(saved);
        ann.reset();
        co_await close();
        const fs::path place = user_directory() / "checkpoints/web" / saved->id;
        fs::permissions(place / memory_file, fs::perms::owner_all);
        fs::permissions(place / disk_file, fs::perms::owner_all);
        fs::resize_file(place / memory_file, MiB{128}.bytes());
        std::fstream{place / disk_file, std::ios::in | std::ios::out} << random_hex(MiB{1}.bytes() / 2);
        auto config = read_snapshot(place).value();
        change(config);
        EXPECT_TRUE(write_snapshot_config(place, config));

        co_await open();
        ann = co_await tenant();
        auto source = co_await ann->checkpoints().export_stream(named("web"), saved->id);
        EXPECT_TRUE(source) << source.error().full();
        std::string stream;
        while (true) {
            auto piece = co_await (*source)->next();
            EXPECT_TRUE(piece) << piece.error().full();
            if (!piece || piece->empty()) break;
            stream += *piece;
        }
        source->reset();
        EXPECT_TRUE(co_await ann->destroy(named("web")));
        co_return stream;
    }
    // What becomes of it; nothing of what is refused stays.
    Awaitable<Result<CheckpointView>> taken_in(std::string stream) {
        auto ann = co_await tenant();
        Result<CheckpointView> done = fail(Errc::internal, "not begun");
        {
            CheckpointRequest as{"arrived"};
            auto sink = co_await ann->checkpoints().import_stream(named("web"), std::move(as));
            if (!sink) co_return fail(std::move(sink.error()));
            auto written = co_await (*sink)->write(std::move(stream));
            if (written) done = co_await (*sink)->finish();
            if (!written) done = fail(std::move(written.error()));
        }
        if (!done) {
            EXPECT_TRUE(fs::is_empty(user_directory() / "checkpoints"));
        }
        co_return done;
    }
    Errc refused_with(Change change) {
        Errc code = Errc::internal;
        run([&]() -> Awaitable<void> {
            std::string stream = co_await exported(change);
            auto done = co_await taken_in(std::move(stream));
            EXPECT_FALSE(done);
            if (!done) code = done.error().code;
            co_await close();
        });
        return code;
    }
};

TEST_F(ImportTest, WhatFitsIsTakenIn) {
    run([this]() -> Awaitable<void> {
        std::string stream = co_await exported([](SnapshotConfig&) {});
        auto done = co_await taken_in(std::move(stream));
        EXPECT_TRUE(done) << done.error().full();
        auto ann = co_await tenant();
        auto listed = co_await ann->checkpoints().list(named("web"));
        EXPECT_EQ(listed->size(), 1u);
        EXPECT_EQ(listed->front().name, "arrived");
        EXPECT_EQ(listed->front().obstacle, "");
        ann.reset();
        co_await close();
    });
}

TEST_F(ImportTest, RefusesWhatNoVmCanBeAskedFor) {
    EXPECT_EQ(refused_with([](SnapshotConfig& config) { config.cpus = 0; }), Errc::invalid);
    EXPECT_EQ(refused_with([](SnapshotConfig& config) { config.cpus = 1000; }), Errc::limit_exceeded);
    EXPECT_EQ(refused_with([](SnapshotConfig& config) { config.image = "../../etc/shadow"; }), Errc::invalid);
    EXPECT_EQ(refused_with([](SnapshotConfig& config) { config.label = std::string(1000, 'x'); }),
              Errc::invalid);
    EXPECT_EQ(refused_with([](SnapshotConfig& config) { config.env.assign(1000, "A=b"); }), Errc::invalid);
    EXPECT_EQ(refused_with([](SnapshotConfig& config) { config.env = {"no assignment"}; }), Errc::invalid);
    EXPECT_EQ(refused_with([](SnapshotConfig& config) { config.vmm_version = "0"; }), Errc::unsupported);
}

TEST_F(ImportTest, CountsWhatArrivesAgainstTheUsersSpace) {
    run([this]() -> Awaitable<void> {
        std::string stream = co_await exported([](SnapshotConfig&) {});
        config_.limits.max_disk = MiB{1};
        co_await close();
        co_await open();
        auto done = co_await taken_in(std::move(stream));
        EXPECT_FALSE(done);
        if (!done) {
            EXPECT_EQ(done.error().code, Errc::limit_exceeded) << done.error().full();
        }
        co_await close();
    });
}

}  // namespace
}  // namespace noid::vm
