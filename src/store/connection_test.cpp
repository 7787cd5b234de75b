#include "store/connection.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "base/random.hpp"
#include "store/migrations.hpp"

namespace noid::store {
namespace {

using namespace std::chrono_literals;

class ConnectionTest : public ::testing::Test {
  protected:
    ConnectionTest() : directory_{std::filesystem::temp_directory_path() / ("noid-store-" + random_hex(6))} {
        std::filesystem::create_directory(directory_);
    }
    ~ConnectionTest() override { std::filesystem::remove_all(directory_); }
    std::filesystem::path file() const { return directory_ / "test.db"; }

    std::filesystem::path directory_;
};

TEST_F(ConnectionTest, ReadingOnlyChangesNothing) {
    EXPECT_EQ(Connection::open_read_only(file()).error().code, Errc::not_found);
    EXPECT_FALSE(std::filesystem::exists(file()));
    {
        auto connection = Connection::open(file(), Durability::process_crash);
        ASSERT_TRUE(connection);
        ASSERT_TRUE(connection->execute("PRAGMA journal_mode = DELETE; CREATE TABLE t (a TEXT)"));
    }
    auto reader = Connection::open_read_only(file());
    ASSERT_TRUE(reader);
    EXPECT_TRUE(reader->prepare("SELECT a FROM t"));
    EXPECT_EQ(reader->execute("INSERT INTO t VALUES ('x')").error().code, Errc::forbidden);
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator{directory_}, {}), 1);
}

TEST_F(ConnectionTest, KeepsTextNumbersAndNulls) {
    auto connection = Connection::open(file(), Durability::process_crash);
    ASSERT_TRUE(connection);
    ASSERT_TRUE(connection->execute("CREATE TABLE t (a TEXT, b INTEGER, c TEXT)"));
    auto insert = connection->prepare("INSERT INTO t VALUES (?, ?, ?)");
    ASSERT_TRUE(insert);
    const std::string hostile = "x'); DROP TABLE t; --";
    ASSERT_TRUE(
        insert->bind(1, hostile).bind(2, std::int64_t{1} << 40).bind(3, std::optional<std::string>{}).run());
    auto query = connection->prepare("SELECT a, b, c FROM t");
    ASSERT_TRUE(query);
    ASSERT_TRUE(query->step().value());
    EXPECT_EQ(query->text(0), hostile);
    EXPECT_EQ(query->number(1), std::int64_t{1} << 40);
    EXPECT_FALSE(query->optional_text(2));
    EXPECT_FALSE(query->step().value());
}

TEST_F(ConnectionTest, FilesArePrivate) {
    auto connection = Connection::open(file(), Durability::process_crash);
    ASSERT_TRUE(connection);
    ASSERT_TRUE(connection->execute("CREATE TABLE t (a)"));
    for (const char* suffix : {"", "-wal"}) {
        struct stat status {};
        ASSERT_EQ(::stat((file().string() + suffix).c_str(), &status), 0) << suffix;
        EXPECT_EQ(status.st_mode & 0777, 0600u) << suffix;
    }
}

// A write to a mapped file on a full disk would end the process.
TEST_F(ConnectionTest, NoFileIsMapped) {
    auto connection = Connection::open(file(), Durability::process_crash);
    ASSERT_TRUE(connection);
    ASSERT_TRUE(connection->execute("CREATE TABLE t (a)"));
    EXPECT_FALSE(std::filesystem::exists(file().string() + "-shm"));
    auto second = Connection::open(file(), Durability::process_crash);
    ASSERT_TRUE(second);
    EXPECT_TRUE(second->execute("INSERT INTO t VALUES (1)")) << "as many as it likes in one process";
}

TEST_F(ConnectionTest, ALockedDatabaseIsUnavailable) {
    auto first = Connection::open(file(), Durability::process_crash);
    ASSERT_TRUE(first);
    ASSERT_TRUE(first->execute("CREATE TABLE t (a)"));
    auto held = Transaction::begin(*first);
    ASSERT_TRUE(held);
    auto second = Connection::open(file(), Durability::process_crash, 10ms);
    ASSERT_TRUE(second);
    auto refused = Transaction::begin(*second);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::unavailable);
    EXPECT_NE(refused.error().what.find("locked"), std::string::npos);
}

TEST_F(ConnectionTest, AFullDatabaseIsNoSpaceAndLosesNothing) {
    auto connection = Connection::open(file(), Durability::process_crash);
    ASSERT_TRUE(connection);
    ASSERT_TRUE(
        connection->execute("CREATE TABLE t (a); INSERT INTO t VALUES ('kept'); PRAGMA max_page_count = 8;"));
    auto insert = connection->prepare("INSERT INTO t VALUES (?)");
    ASSERT_TRUE(insert);
    auto refused = insert->bind(1, std::string(1 << 20, 'x')).run();
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::no_space);
    auto count = connection->prepare("SELECT count(*) FROM t");
    ASSERT_TRUE(count->step().value());
    EXPECT_EQ(count->number(0), 1);
}

TEST_F(ConnectionTest, AFileThatIsNoDatabaseIsCorrupt) {
    std::ofstream{file()} << std::string(8192, 'z');
    auto connection = Connection::open(file(), Durability::process_crash);
    ASSERT_FALSE(connection);
    EXPECT_EQ(connection.error().code, Errc::corrupt);
}

TEST_F(ConnectionTest, ATransactionThatIsNotCommittedLeavesNothing) {
    auto connection = Connection::open(file(), Durability::process_crash);
    ASSERT_TRUE(connection);
    ASSERT_TRUE(connection->execute("CREATE TABLE t (a)"));
    {
        auto transaction = Transaction::begin(*connection);
        ASSERT_TRUE(transaction);
        ASSERT_TRUE(connection->execute("INSERT INTO t VALUES (1)"));
    }
    auto count = connection->prepare("SELECT count(*) FROM t");
    ASSERT_TRUE(count->step().value());
    EXPECT_EQ(count->number(0), 0);
}

TEST_F(ConnectionTest, MigrationsRunOnceAndANewerSchemaIsLeftAlone) {
    auto connection = Connection::open(file(), Durability::process_crash);
    ASSERT_TRUE(connection);
    const char* const first[] = {"CREATE TABLE a (x)"};
    const char* const both[] = {"CREATE TABLE a (x)", "CREATE TABLE b (x)"};
    ASSERT_TRUE(migrate(*connection, first));
    ASSERT_TRUE(migrate(*connection, both));
    ASSERT_TRUE(migrate(*connection, both));
    EXPECT_TRUE(connection->execute("INSERT INTO b VALUES (1)"));
    auto refused = migrate(*connection, first);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::unsupported);
}

TEST_F(ConnectionTest, AFailedMigrationChangesNothing) {
    auto connection = Connection::open(file(), Durability::process_crash);
    ASSERT_TRUE(connection);
    const char* const broken[] = {"CREATE TABLE a (x)", "CREATE TABLE a (x)"};
    ASSERT_FALSE(migrate(*connection, broken));
    EXPECT_FALSE(connection->execute("INSERT INTO a VALUES (1)"));
}

}  // namespace
}  // namespace noid::store
