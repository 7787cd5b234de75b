#include "proto/codec.hpp"

#include <gtest/gtest.h>

#include <limits>

namespace noid::proto {
namespace {

SessionSpec an_exec() {
    return {.operation = Exec{.argv = {"sh", "-c", "true"},
                              .env = {"A=b"},
                              .cwd = "/tmp",
                              .user = "1000:1000",
                              .tty = TerminalSize{120, 40},
                              .merge_error_output = true,
                              .input = false,
                              .time_limit = std::chrono::milliseconds{1500}},
            .on_disconnect = Disconnect::detach,
            .hold = std::chrono::milliseconds{9},
            .label = "it's"};
}

TEST(Codec, ASpecificationSurvives) {
    const auto decoded = decode<Control>(encode(Control{an_exec()}));
    ASSERT_TRUE(decoded);
    const auto& spec = std::get<SessionSpec>(*decoded);
    const auto& exec = std::get<Exec>(spec.operation);
    EXPECT_EQ(exec.argv, (std::vector<std::string>{"sh", "-c", "true"}));
    EXPECT_EQ(exec.env, std::vector<std::string>{"A=b"});
    EXPECT_EQ(exec.cwd, "/tmp");
    EXPECT_EQ(exec.user, "1000:1000");
    ASSERT_TRUE(exec.tty);
    EXPECT_EQ(exec.tty->columns, 120);
    EXPECT_TRUE(exec.merge_error_output);
    EXPECT_FALSE(exec.input);
    EXPECT_EQ(exec.time_limit.count(), 1500);
    EXPECT_EQ(spec.on_disconnect, Disconnect::detach);
    EXPECT_EQ(spec.hold.count(), 9);
    EXPECT_EQ(spec.label, "it's");
}

TEST(Codec, OtherMessagesSurvive) {
    Identity identity;
    identity.entropy.fill(std::byte{0xab});
    identity.clock_ns = -5;
    identity.hostname = "h";
    identity.end_sessions = true;
    identity.network =
        GuestNetwork{.mac = "aa", .address = "1/30", .gateway = "2", .nameservers = {"3", "4"}};
    identity.env = {"X=y"};
    const auto request = decode<Request>(encode(Request{identity}));
    ASSERT_TRUE(request);
    const auto& same = std::get<Identity>(*request);
    EXPECT_EQ(same.entropy, identity.entropy);
    EXPECT_EQ(same.clock_ns, -5);
    EXPECT_TRUE(same.end_sessions);
    ASSERT_TRUE(same.network);
    EXPECT_EQ(same.network->nameservers, (std::vector<std::string>{"3", "4"}));
    EXPECT_EQ(same.env, std::vector<std::string>{"X=y"});

    SessionPage page;
    page.sessions.push_back(
        {.id = {77},
         .kind = "exec",
         .command = "sh",
         .label = "l",
         .pid = 3,
         .produced = {1, 2},
         .ended = SessionEnd{.how = SessionEnd::How::signalled, .status = 9, .message = {}}});
    page.more = true;
    const auto reply = decode<Reply>(encode(Reply{page}));
    ASSERT_TRUE(reply);
    const auto& info = std::get<SessionPage>(*reply).sessions.at(0);
    EXPECT_EQ(info.id.value, 77U);
    EXPECT_EQ(info.produced.err, 2U);
    ASSERT_TRUE(info.ended);
    EXPECT_EQ(info.ended->status, 9);
}

TEST(Codec, RefusesEveryCutAndAnythingMore) {
    const std::string whole = encode(Control{an_exec()});
    for (std::size_t size = 0; size < whole.size(); ++size) {
        const auto cut = decode<Control>(std::string_view{whole}.substr(0, size));
        ASSERT_FALSE(cut) << size;
        EXPECT_EQ(cut.error().code, Errc::corrupt);
    }
    EXPECT_FALSE(decode<Control>(whole + "x"));
}

TEST(Codec, RefusesWhatTheKernelOrAReaderWouldMisread) {
    auto with_nul = an_exec();
    std::get<Exec>(with_nul.operation).argv[2] = std::string("a\0b", 3);
    EXPECT_FALSE(decode<Control>(encode(Control{with_nul})));

    auto too_many = an_exec();
    std::get<Exec>(too_many.operation).env.resize(max_arguments + 1);
    EXPECT_FALSE(decode<Control>(encode(Control{too_many})));

    GuestStats stats;
    stats.load_1 = std::numeric_limits<double>::quiet_NaN();
    EXPECT_FALSE(decode<Reply>(encode(Reply{stats})));

    EXPECT_FALSE(decode<Request>("\xff"));
    // A list that says it has four billion entries costs nothing.
    EXPECT_FALSE(decode<Control>(std::string("\0\0\xff\xff\xff\xff", 6)));
}

TEST(RecordReader, PutsPiecesTogetherAndBoundsThem) {
    std::string bytes;
    append_record(bytes, SessionEvent{Opened{.pid = 5, .file = {}}});
    append_record(bytes, SessionEvent{OutputEnd{OutputStream::err, 10}});
    RecordReader<SessionEvent> reader;
    int records = 0;
    for (const char byte : bytes) {
        reader.feed({&byte, 1});
        const auto record = reader.next();
        ASSERT_TRUE(record);
        records += record->has_value();
    }
    EXPECT_EQ(records, 2);
    reader.feed("\xff\xff\xff\x7f");
    EXPECT_FALSE(reader.next());
}

}  // namespace
}  // namespace noid::proto
