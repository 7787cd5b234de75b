#include "migrate/take_over.hpp"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>

#include "base/file.hpp"
#include "base/random.hpp"
#include "store/connection.hpp"
#include "vm/checkpoint_index.hpp"
#include "vm/snapshot.hpp"
#include "vm/token.hpp"

namespace noid::migrate {
namespace {

namespace fs = std::filesystem;
using Kind = Outcome::Kind;
using testing::HasSubstr;

constexpr const char* ann = "0f8fad5b-d9cb-469f-a165-70867728950e";
constexpr const char* token = "noid_tok_00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

// A data directory as the original leaves it, and one of ours.
class TakeOver : public testing::Test {
  protected:
    TakeOver() : directory_{fs::temp_directory_path() / ("noid-migrate-" + random_hex(6))} {
        fs::create_directories(original() / "storage/users");
        auto database = store::Connection::open(original() / "noid.db", store::Durability::process_crash);
        EXPECT_TRUE(database);
        run(*database,
            "PRAGMA journal_mode = DELETE;"
            "CREATE TABLE users (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, token_hash TEXT NOT NULL,"
            "  created_at TEXT NOT NULL DEFAULT (datetime('now')));"
            "CREATE TABLE vms (id INTEGER PRIMARY KEY AUTOINCREMENT, user_id TEXT NOT NULL, name TEXT NOT "
            "NULL,"
            "  pid INTEGER, socket_path TEXT, kernel TEXT, rootfs TEXT, cpus INTEGER, mem_mib INTEGER,"
            "  state TEXT NOT NULL DEFAULT 'running', created_at TEXT NOT NULL DEFAULT (datetime('now')),"
            "  net_index INTEGER, tap_name TEXT, guest_ip TEXT, UNIQUE(user_id, name));"
            "CREATE TABLE checkpoints (id TEXT PRIMARY KEY, vm_name TEXT NOT NULL, user_id TEXT NOT NULL,"
            "  label TEXT, snapshot_path TEXT NOT NULL, created_at TEXT NOT NULL DEFAULT "
            "(datetime('now')));");
        add_user(*database, ann, "ann", vm::to_hex(vm::hash_token(token)));
        run(*database,
            fmt::format("INSERT INTO vms (user_id, name, cpus, mem_mib) VALUES ('{}', 'dev', 2, 512)", ann));
        add_checkpoint(*database, "00000000000000a1", "dev", "before");
    }
    ~TakeOver() override { fs::remove_all(directory_); }

    static void run(store::Connection& database, const std::string& sql) {
        ASSERT_TRUE(database.execute(sql.c_str()));
    }
    static void add_user(store::Connection& database, const std::string& id, const std::string& name,
                         const std::string& hash) {
        run(database, fmt::format("INSERT INTO users VALUES ('{}', '{}', '{}', '2024-05-06 07:08:09')", id,
                                  name, hash));
    }
    void add_checkpoint(store::Connection& database, const std::string& id, const std::string& vm,
                        const std::string& label) {
        const auto place = original() / "storage/users" / ann / "checkpoints" / vm / id;
        fs::create_directories(place);
        // Not a whole number of MiB.
        write(place / "rootfs.ext4", std::string(3 * 1024 * 1024 / 2, 'd'));
        write(place / "memory.snap", "memory");
        run(database,
            fmt::format(
                "INSERT INTO checkpoints VALUES ('{}', '{}', '{}', '{}', '{}', '2024-05-07 00:00:00')", id,
                vm, ann, label, place.string()));
    }
    static void write(const fs::path& file, const std::string& text) {
        std::ofstream{file, std::ios::binary} << text;
    }

    [[nodiscard]] store::Connection open_database() const {
        auto database = store::Connection::open(original() / "noid.db", store::Durability::process_crash);
        EXPECT_TRUE(database);
        run(*database, "PRAGMA journal_mode = DELETE");
        return std::move(*database);
    }

    [[nodiscard]] fs::path original() const { return directory_ / "original"; }
    [[nodiscard]] fs::path ours() const { return directory_ / "ours"; }
    [[nodiscard]] fs::path taken_checkpoint() const {
        return ours() / "users" / ann / "checkpoints/dev/00000000000000a1";
    }

    std::vector<Outcome> migrate() {
        auto found = read_original(original());
        EXPECT_TRUE(found) << found.error().full();
        auto to = vm::DataDirectory::open(ours());
        EXPECT_TRUE(to) << to.error().full();
        auto outcomes = take_over(*found, *to);
        EXPECT_TRUE(outcomes) << outcomes.error().full();
        return std::move(*outcomes);
    }
    static const Outcome& about(const std::vector<Outcome>& outcomes, const std::string& what) {
        static const Outcome nothing{Kind::left, "nothing", "nothing was said about it"};
        for (const auto& outcome : outcomes) {
            if (outcome.what.starts_with(what)) return outcome;
        }
        return nothing;
    }

    // Every file with its content.
    [[nodiscard]] std::map<std::string, std::string> content_of(const fs::path& root) const {
        std::map<std::string, std::string> content;
        for (const auto& entry : fs::recursive_directory_iterator{root}) {
            if (!entry.is_regular_file()) continue;
            std::ifstream file{entry.path(), std::ios::binary};
            content[entry.path().string()] = {std::istreambuf_iterator{file}, {}};
        }
        return content;
    }

    fs::path directory_;
};

TEST_F(TakeOver, BringsUsersWhoseTokensStayValid) {
    const auto before = content_of(original());
    const auto outcomes = migrate();
    EXPECT_EQ(about(outcomes, "user 'ann'").kind, Kind::taken);
    auto users = store::UserDatabase::open(ours() / "noid.db");
    ASSERT_TRUE(users);
    const auto rows = (*users)->users();
    ASSERT_TRUE(rows);
    ASSERT_EQ(rows->size(), 1U);
    EXPECT_EQ(rows->front().id, ann);
    EXPECT_EQ(rows->front().created_at, "2024-05-06 07:08:09");
    const std::string_view bare = std::string_view{token}.substr(vm::token_prefix.size());
    EXPECT_EQ(rows->front().token_hash, vm::to_hex(vm::hash_token(token)));
    EXPECT_EQ(rows->front().token_hash, vm::to_hex(vm::hash_token(bare)));
    EXPECT_EQ(content_of(original()), before);
}

TEST_F(TakeOver, BringsDisksOfCheckpointsWithoutTheirMemory) {
    const auto outcomes = migrate();
    EXPECT_EQ(about(outcomes, "disk of checkpoint '00000000000000a1'").kind, Kind::taken);
    vm::CheckpointIndex index{ours() / "users" / ann / "checkpoints"};
    ASSERT_TRUE(index.load());
    const auto found = index.find(*vm::VmName::parse("dev"), "00000000000000a1");
    ASSERT_TRUE(found) << found.error().full();
    EXPECT_FALSE(found->has_memory);
    EXPECT_EQ(found->label, "before");
    EXPECT_EQ(found->cpus, 2U);
    EXPECT_EQ(found->memory, MiB{512});
    EXPECT_EQ(found->disk, MiB{2});
    EXPECT_EQ(found->view().created_at, "2024-05-07 00:00:00");
    EXPECT_EQ(fs::file_size(taken_checkpoint() / vm::disk_file), MiB{2}.bytes());
    EXPECT_FALSE(fs::exists(taken_checkpoint() / vm::memory_file));
}

TEST_F(TakeOver, CanBeRepeatedAndContinued) {
    migrate();
    {
        auto database = open_database();
        add_checkpoint(database, "00000000000000a2", "dev", "later");
    }
    vm::SnapshotConfig renamed = *vm::read_snapshot(taken_checkpoint());
    renamed.name = "mine now";
    ASSERT_TRUE(vm::write_snapshot_config(taken_checkpoint(), renamed));
    const auto outcomes = migrate();
    EXPECT_EQ(about(outcomes, "user 'ann'").kind, Kind::there_already);
    EXPECT_EQ(about(outcomes, "disk of checkpoint '00000000000000a1'").kind, Kind::there_already);
    EXPECT_EQ(about(outcomes, "disk of checkpoint '00000000000000a2'").kind, Kind::taken);
    EXPECT_EQ(vm::read_snapshot(taken_checkpoint())->name, "mine now");
}

TEST_F(TakeOver, MakesAnImageOfGolden) {
    fs::create_directories(original() / "golden");
    write(original() / "golden/rootfs.ext4", std::string(1024 * 1024, 'g'));
    write(original() / "golden/config.json", R"({"cpus":1,"mem_mib":2048})");
    EXPECT_EQ(about(migrate(), "golden's disk").kind, Kind::taken);
    EXPECT_EQ(fs::file_size(ours() / "images" / fmt::format("{}.ext4", golden_image)), 1024U * 1024);
    EXPECT_EQ(about(migrate(), "golden's disk").kind, Kind::there_already);
}

TEST_F(TakeOver, SaysWhatItLeavesAndWhy) {
    {
        auto database = open_database();
        add_user(database, "11111111-d9cb-469f-a165-70867728950e", "no name", std::string(64, '0'));
        add_user(database, "../../../../../../../../../../../tmp", "bob", std::string(64, '0'));
        add_user(database, "22222222-d9cb-469f-a165-70867728950e", "cid", "plain");
        add_checkpoint(database, "00000000000000b1", "dev", "");
        fs::remove(original() / "storage/users" / ann / "checkpoints/dev/00000000000000b1/rootfs.ext4");
        add_checkpoint(database, "../00000000000b2", "dev", "");
    }
    const auto outcomes = migrate();
    for (const auto* what :
         {"user 'no name'", "user 'bob'", "user 'cid'", "disk of checkpoint '00000000000000b1'",
          "disk of checkpoint '../00000000000b2'", "VM 'dev'"}) {
        const auto& outcome = about(outcomes, what);
        EXPECT_EQ(outcome.kind, Kind::left) << what;
        EXPECT_NE(outcome.why, "") << what;
        EXPECT_NE(outcome.what, "nothing") << what;
    }
    EXPECT_EQ(about(outcomes, "user 'ann'").kind, Kind::taken);
    EXPECT_EQ(std::distance(fs::directory_iterator{taken_checkpoint().parent_path()}, {}), 1);
}

TEST_F(TakeOver, LeavesAUserWhoseNameSomebodyElseHas) {
    {
        auto to = vm::DataDirectory::open(ours());
        ASSERT_TRUE(to);
        auto users = store::UserDatabase::open(to->database());
        ASSERT_TRUE(users);
        ASSERT_TRUE((*users)->add("33333333-d9cb-469f-a165-70867728950e", "ann", std::string(64, '1')));
    }
    const auto outcomes = migrate();
    EXPECT_THAT(about(outcomes, "user 'ann'").why, HasSubstr("another user"));
    EXPECT_EQ(about(outcomes, "disk of checkpoint '00000000000000a1'").kind, Kind::left);
}

TEST_F(TakeOver, NoticesStorageThatIsNotMounted) {
    fs::remove_all(original() / "storage");
    fs::create_directory(original() / "storage");
    write(original() / "storage.img", "x");
    const auto outcomes = migrate();
    EXPECT_THAT(about(outcomes, "disk of checkpoint '00000000000000a1'").why, HasSubstr("storage.img"));
}

TEST_F(TakeOver, RefusesWhatIsNotTheOriginals) {
    EXPECT_EQ(read_original(directory_ / "nowhere").error().code, Errc::not_found);
    {
        auto to = vm::DataDirectory::open(ours());
        ASSERT_TRUE(to);
        ASSERT_TRUE(store::UserDatabase::open(to->database()));
    }
    EXPECT_EQ(read_original(ours()).error().code, Errc::invalid);
}

}  // namespace
}  // namespace noid::migrate
