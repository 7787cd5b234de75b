#include "qemu/qmp_message.hpp"

#include <gtest/gtest.h>

#include <boost/json/object.hpp>

namespace noid::qemu {
namespace {

TEST(QmpMessage, ReadsTheGreeting) {
    const auto message = parse_qmp(
        R"({"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian"}, )"
        R"("capabilities": ["oob"]}})"
        "\r\n");
    ASSERT_TRUE(message) << message.error().what;
    EXPECT_EQ(std::get<QmpGreeting>(*message).version, "7.2.22");
    EXPECT_EQ(std::get<QmpGreeting>(*parse_qmp(R"({"QMP": {}})")).version, "");
}

TEST(QmpMessage, ReadsReplies) {
    const auto message = parse_qmp(R"({"return": {"status": "running"}, "id": 7})");
    ASSERT_TRUE(message);
    const auto& reply = std::get<QmpReply>(*message);
    EXPECT_EQ(reply.id, 7U);
    EXPECT_EQ(reply.value.at("status").as_string(), "running");
}

TEST(QmpMessage, ReadsFailures) {
    const auto message =
        parse_qmp(R"({"id": 3, "error": {"class": "CommandNotFound", "desc": "no such thing"}})");
    ASSERT_TRUE(message);
    const auto& failure = std::get<QmpFailure>(*message);
    EXPECT_EQ(failure.id, 3U);
    EXPECT_EQ(failure.kind, "CommandNotFound");
    EXPECT_EQ(failure.description, "no such thing");
}

TEST(QmpMessage, ReadsEvents) {
    const auto message = parse_qmp(R"({"timestamp": {"seconds": 1, "microseconds": 2}, "event": "SHUTDOWN", )"
                                   R"("data": {"guest": true, "reason": "guest-reset"}})");
    ASSERT_TRUE(message);
    const auto& event = std::get<QmpEvent>(*message);
    EXPECT_EQ(event.name, "SHUTDOWN");
    EXPECT_EQ(event.data.at("reason").as_string(), "guest-reset");
    EXPECT_TRUE(std::get<QmpEvent>(*parse_qmp(R"({"event": "STOP"})")).data.empty());
}

TEST(QmpMessage, TakesUnexpectedIdsForNone) {
    for (const auto* id : {"-1", "\"x\"", "{}", "1.5", "null"}) {
        const auto message = parse_qmp(std::string{R"({"return": {}, "id": )"} + id + "}");
        ASSERT_TRUE(message) << id;
        EXPECT_EQ(std::get<QmpReply>(*message).id, 0U);
    }
}

TEST(QmpMessage, RefusesEverythingElse) {
    for (const auto* line : {"", "\n", "hello", "[]", "42", "{}", R"({"event": 5})", R"({"error": "x"})",
                             R"({"return": {}} trailing)", R"({"return":)", "\x00\xff"}) {
        const auto message = parse_qmp(line);
        ASSERT_FALSE(message) << line;
        EXPECT_EQ(message.error().code, Errc::corrupt);
        EXPECT_LT(message.error().what.size(), 300U);
    }
    EXPECT_FALSE(parse_qmp(std::string(10'000, '[')));  // nesting is bounded
    EXPECT_EQ(parse_qmp(std::string(max_qmp_line + 1, ' ')).error().code, Errc::too_large);
}

TEST(QmpMessage, FormatsCommands) {
    EXPECT_EQ(format_qmp(1, "stop", {}), "{\"execute\":\"stop\",\"id\":1}\n");
    EXPECT_EQ(format_qmp(2, "x", {{"name", "a\nb\""}}),
              "{\"execute\":\"x\",\"id\":2,\"arguments\":{\"name\":\"a\\nb\\\"\"}}\n");
}

}  // namespace
}  // namespace noid::qemu
