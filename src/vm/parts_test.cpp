// The small parts of the engine, each alone.
#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/strand.hpp>
#include <filesystem>

#include "base/temporary_directory.hpp"
#include "vm/create_request.hpp"
#include "vm/operation_queue.hpp"
#include "vm/race.hpp"
#include "vm/rotated_file.hpp"
#include "vm/task_group.hpp"
#include "vm/token.hpp"
#include "vm/vm_record.hpp"

namespace noid::vm {
namespace {

using namespace std::chrono_literals;

TEST(VmName, FollowsTheRule) {
    for (const char* good : {"a", "web-1", "A.b_c", "0"}) EXPECT_TRUE(VmName::parse(good)) << good;
    for (const char* bad : {"", ".a", "-a", "a..b", "a/b", "a b", "ä", "a\n"})
        EXPECT_FALSE(VmName::parse(bad)) << bad;
    EXPECT_TRUE(VmName::parse(std::string(64, 'a')));
    EXPECT_FALSE(VmName::parse(std::string(65, 'a')));
}

TEST(VmRecord, SurvivesJson) {
    VmRecord record{.id = "0123456789abcdef", .name = VmName::parse("web").value()};
    record.cpus = 3;
    record.memory = MiB{512};
    record.disk = MiB{2048};
    record.labels = {{"k", "v \"quoted\""}};
    record.env = {"A=ü", "B=\n"};
    record.image = "debian";
    record.network.mode = NetworkMode::egress;
    record.machine_id = std::string(32, 'f');
    record.created_unix = 1'700'000'000;
    record.vmm = "qemu";
    record.warnings = {"w"};
    auto read = VmRecord::from_json(record.to_json());
    ASSERT_TRUE(read);
    EXPECT_EQ(read->to_json(), record.to_json());
    EXPECT_EQ(utc_text(record.created_unix), "2023-11-14 22:13:20");
}

TEST(VmRecord, RefusesWhatIsNoRecord) {
    for (const char* bad : {"", "{}", "[]", "null", R"({"format":2,"name":"a"})",
                            R"({"format":1,"name":"../a"})", R"({"format":1,"name":"a"})"}) {
        auto read = VmRecord::from_json(bad);
        ASSERT_FALSE(read) << bad;
        EXPECT_EQ(read.error().code, Errc::corrupt) << bad;
    }
}

TEST(VmStatus, SurvivesItsRow) {
    VmStatus status;
    status.state = State::paused;
    status.reason = "because";
    status.started_unix = 5;
    status.process = ProcessIdentity{12, 34};
    Slot slot;
    slot.index = 7;
    slot.attachment.tap = "tap0";
    slot.attachment.netns = "/run/netns/noid7";
    slot.attachment.guest_mac = slot.guest.mac = "AA:FC:00:00:00:01";
    slot.guest.nameservers = {"1.1.1.1"};
    slot.address = "172.16.0.30";
    status.slot = slot;
    auto read = VmStatus::from_row(status.to_row());
    ASSERT_TRUE(read);
    EXPECT_EQ(read->state, State::paused);
    EXPECT_EQ(read->process, status.process);
    EXPECT_EQ(read->slot->attachment.netns, slot.attachment.netns);
    EXPECT_EQ(read->slot->guest.mac, slot.guest.mac);
    EXPECT_EQ(read->slot->guest.nameservers, slot.guest.nameservers);
}

TEST(Token, BothSpellingsAreOneToken) {
    const std::string secret(64, '7');
    EXPECT_EQ(hash_token(secret), hash_token("noid_tok_" + secret));
    EXPECT_EQ(to_hex(hash_token(secret)), sha256_hex("noid_tok_" + secret));
    EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    TokenHash hash{};
    EXPECT_TRUE(from_hex(to_hex(hash_token(secret)), hash));
    EXPECT_TRUE(SameTokenHash{}(hash, hash_token(secret)));
    EXPECT_FALSE(from_hex("zz", hash));
    EXPECT_FALSE(from_hex(std::string(64, 'g'), hash));
}

class RotatedFileTest : public ::testing::Test {
  protected:
    TemporaryDirectory directory_ = TemporaryDirectory::create().value();
    std::filesystem::path path_ = directory_.path() / "x.log";
};

TEST_F(RotatedFileTest, KeepsTheNewestBytesAndCountsAll) {
    RotatedFile file{path_, 10};
    ASSERT_TRUE(file.append("0123456789abcdefghijKLMNO"));
    EXPECT_EQ(file.end(), 25u);
    auto piece = file.read(0, 100);
    EXPECT_EQ(piece->position, 10u);
    EXPECT_EQ(piece->bytes, "abcdefghij");
    piece = file.read(20, 100);
    EXPECT_EQ(piece->bytes, "KLMNO");
    EXPECT_EQ(file.read(22, 2)->bytes, "MN");
    EXPECT_EQ(file.read(25, 100)->bytes, "");
    EXPECT_EQ(file.read(99, 100)->position, 25u);
    EXPECT_LE(std::filesystem::file_size(path_), 10u);
}

TEST_F(RotatedFileTest, GoesOnWhereItWas) {
    {
        RotatedFile file{path_, 10};
        ASSERT_TRUE(file.append("0123456789abc"));
    }
    RotatedFile file{path_, 10};
    EXPECT_EQ(file.end(), 13u);
    EXPECT_EQ(file.read(8, 100)->bytes, "89");
    ASSERT_TRUE(file.append("d"));
    EXPECT_EQ(file.read(10, 100)->bytes, "abcd");
    ASSERT_TRUE(file.remove());
    EXPECT_TRUE(std::filesystem::is_empty(directory_.path()));
    ASSERT_TRUE(file.append("new"));
    EXPECT_EQ(file.read(0, 100)->bytes, "new");
}

TEST(OperationQueue, RunsInOrderAndACancelledOneGivesUpItsPlace) {
    asio::io_context loop;
    auto strand = asio::make_strand(loop);
    OperationQueue queue;
    std::string order;
    auto operation = [&](char name, std::chrono::milliseconds length) -> Awaitable<Result<void>> {
        auto turn = co_await queue.turn();
        order.push_back(name);
        asio::steady_timer timer{strand, length};
        co_await timer.async_wait(asio::use_awaitable);
        co_return Result<void>{};
    };
    auto ignore = [](std::exception_ptr thrown, Result<void>) { EXPECT_FALSE(thrown); };
    asio::co_spawn(strand, operation('a', 60ms), ignore);
    asio::co_spawn(strand, within(20ms, operation('b', 0ms)),
                   [](std::exception_ptr thrown, Result<void> result) {
                       EXPECT_FALSE(thrown);
                       EXPECT_EQ(result.error().code, Errc::timed_out);
                   });
    asio::co_spawn(strand, operation('c', 0ms), ignore);
    asio::co_spawn(strand, operation('d', 0ms), ignore);
    loop.run();
    EXPECT_EQ(order, "acd");
}

TEST(TaskGroup, CancelsAndJoins) {
    asio::io_context loop;
    auto strand = asio::make_strand(loop);
    TaskGroup group{strand, "test"};
    auto forever = [](asio::any_io_executor executor) -> Awaitable<void> {
        asio::steady_timer timer{executor, 1h};
        co_await timer.async_wait(asio::use_awaitable);
    };
    bool joined = false;
    auto test = [&]() -> Awaitable<void> {
        group.spawn(forever(strand));
        group.spawn(forever(strand));
        EXPECT_FALSE(group.empty());
        group.cancel();
        co_await group.join();
        joined = group.empty();
    };
    asio::co_spawn(strand, test(), [](std::exception_ptr thrown) { EXPECT_FALSE(thrown); });
    loop.run();
    EXPECT_TRUE(joined);
}

TEST(Unless, StopsTheWorkAndSaysWhy) {
    asio::io_context loop;
    auto strand = asio::make_strand(loop);
    auto after = [](std::chrono::milliseconds delay) -> Awaitable<Result<int>> {
        asio::steady_timer timer{co_await asio::this_coro::executor, delay};
        co_await timer.async_wait(asio::use_awaitable);
        co_return 7;
    };
    auto stop_after = [](std::chrono::milliseconds delay) -> Awaitable<Error> {
        asio::steady_timer timer{co_await asio::this_coro::executor, delay};
        co_await timer.async_wait(asio::use_awaitable);
        co_return Error{Errc::conflict, "stopped"};
    };
    auto test = [&]() -> Awaitable<void> {
        auto done = co_await unless<int>(after(1ms), stop_after(1h));
        EXPECT_EQ(done.value(), 7);
        done = co_await unless<int>(after(1h), stop_after(1ms));
        EXPECT_EQ(done.error().what, "stopped");
    };
    asio::co_spawn(strand, test(), [](std::exception_ptr thrown) { EXPECT_FALSE(thrown); });
    loop.run();
}

TEST(CreateRequest, FingerprintsTellRequestsApart) {
    CreateRequest a{.name = VmName::parse("a").value()};
    CreateRequest b = a;
    b.idempotency_key = "does not count";
    EXPECT_EQ(fingerprint(a), fingerprint(b));
    b.env = {"A=1"};
    EXPECT_NE(fingerprint(a), fingerprint(b));
    CreateRequest c = a;
    c.disk = MiB{1};
    EXPECT_NE(fingerprint(a), fingerprint(c));
}

}  // namespace
}  // namespace noid::vm
