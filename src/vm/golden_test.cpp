// Changes of golden that are killed at any system call that changes a file.
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <optional>
#include <set>

#include "vm/golden.hpp"
#include "vm/testing/engine_world.hpp"
#include "vm/testing/killed_at_change.hpp"

namespace noid::vm {
namespace {

namespace fs = std::filesystem;

VmName named(const char* text) {
    return VmName::parse(text).value();
}

// What golden and the previous one are, by the checkpoints they were made of; empty: none.
struct Pair {
    std::string present;
    std::string previous;
    bool operator==(const Pair&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Pair& pair) {
    return out << "golden '" << pair.present << "', previous '" << pair.previous << "'";
}

class GoldenKilled : public EngineWorld {
  protected:
    using Change = std::function<void(const Golden&)>;

    void SetUp() override {
        run([this]() -> Awaitable<void> {
            co_await open();
            auto ann = co_await tenant();
            EXPECT_TRUE(co_await ann->create(request("web")));
            auto web = ann->find(named("web")).value();
            for (std::string* id : {&one_, &two_, &three_}) {
                auto saved = co_await web->checkpoint(CheckpointRequest{});
                EXPECT_TRUE(saved) << saved.error().full();
                *id = saved->id;
            }
            // What a golden holds tells which it is.
            for (const std::string& id : {one_, two_, three_}) {
                const fs::path memory = user_directory() / "checkpoints/web" / id / "memory.snap";
                fs::permissions(memory, fs::perms::owner_all);
                std::ofstream{memory} << id;
            }
            web.reset();
            ann.reset();
            co_await close();
        });
    }

    void make(const Pair& pair) {
        for (const char* place : {"golden", "golden.previous"}) fs::remove_all(data() / place);
        const auto golden = Golden::open(data());
        ASSERT_TRUE(golden);
        for (const std::string& id : {pair.previous, pair.present}) {
            if (!id.empty()) {
                ASSERT_TRUE(golden->promote(id));
            }
        }
        ASSERT_EQ(look(), pair);
    }
    [[nodiscard]] Pair look() const {
        const auto id_of = [this](const char* place) {
            const auto config = read_snapshot(data() / place);
            if (!config) {
                EXPECT_EQ(config.error().code, Errc::not_found) << config.error().full();
                return std::string{};
            }
            std::ifstream memory{data() / place / "memory.snap"};
            EXPECT_EQ((std::string{std::istreambuf_iterator<char>{memory}, {}}), config->id);
            return config->id;
        };
        return {id_of("golden"), id_of("golden.previous")};
    }
    // Golden as the next create of a server finds it, which has recovered nothing.
    [[nodiscard]] std::string present() const {
        const auto config = read_snapshot(data() / "golden");
        if (!config) {
            EXPECT_EQ(config.error().code, Errc::not_found) << config.error().full();
        }
        return config ? config->id : std::string{};
    }

    void expect_creates_use(const std::string& id) {
        run([this, id]() -> Awaitable<void> {
            co_await open();
            auto ann = co_await tenant();
            auto made = co_await ann->create(request("child"));
            EXPECT_TRUE(made) << made.error().full();
            if (made) {
                EXPECT_EQ(made->vm.start_kind, id.empty() ? "boot" : "golden");
            }
            EXPECT_TRUE(co_await ann->destroy(named("child")));
            ann.reset();
            co_await close();
        });
        std::set<std::string> names;
        for (const auto& entry : fs::directory_iterator{data()}) {
            const std::string name = entry.path().filename().string();
            if (name.find("golden") != std::string::npos) names.insert(name);
        }
        names.erase("golden.previous");
        EXPECT_EQ(names, (std::set<std::string>{"golden", "golden.lock"}));
    }

    // From `before` to `after`, killed everywhere between.
    void expect_old_or_new(const Pair& before, const Pair& after, const Change& change) {
        bool changed = false;
        std::size_t n = 0;
        for (bool killed = true; killed; ++n) {
            SCOPED_TRACE("killed at change " + std::to_string(n));
            make(before);
            killed = killed_at_change(n, [&] {
                if (auto golden = Golden::open(data())) change(*golden);
            });
            const std::string found = present();
            EXPECT_TRUE(found == before.present || found == after.present);
            EXPECT_FALSE(changed && found != after.present) << "it had changed earlier already";
            changed = found == after.present;
            // Now and then by a server that starts, else by the next change.
            if (n % 10 == 0 || !killed) expect_creates_use(found);
            ASSERT_TRUE(Golden::open(data()));
            EXPECT_EQ(look(), changed ? after : before);
            change(Golden::open(data()).value());
            if (!changed) {
                EXPECT_EQ(look(), after);
            }
            if (HasFailure()) return;
        }
        EXPECT_GT(n, 1u);
        EXPECT_TRUE(changed);
    }

    [[nodiscard]] const fs::path& data() const { return config_.paths.data_dir; }

    std::string one_;
    std::string two_;
    std::string three_;
};

TEST_F(GoldenKilled, TheFirstPromotion) {
    expect_old_or_new({"", ""}, {one_, ""}, [this](const Golden& golden) { (void)golden.promote(one_); });
}
TEST_F(GoldenKilled, APromotionOverOthers) {
    expect_old_or_new({two_, one_}, {three_, two_},
                      [this](const Golden& golden) { (void)golden.promote(three_); });
}
TEST_F(GoldenKilled, ARollback) {
    // Done twice it would be undone.
    expect_old_or_new({two_, one_}, {one_, two_}, [this](const Golden& golden) {
        if (golden.status()->present->id == two_) (void)golden.rollback();
    });
}
TEST_F(GoldenKilled, AClearing) {
    expect_old_or_new({two_, one_}, {"", two_}, [](const Golden& golden) { (void)golden.clear(); });
}

TEST_F(GoldenKilled, ThePreviousOneOutlivesWhatReplacesNothing) {
    make({two_, one_});
    const auto golden = Golden::open(data()).value();
    EXPECT_TRUE(golden.clear());
    EXPECT_TRUE(golden.clear());
    EXPECT_EQ(look(), (Pair{"", two_}));
    EXPECT_TRUE(golden.promote(three_));
    EXPECT_EQ(look(), (Pair{three_, two_}));
    EXPECT_TRUE(golden.promote(three_)) << "it is golden already";
    EXPECT_EQ(look(), (Pair{three_, two_}));
}

}  // namespace
}  // namespace noid::vm
