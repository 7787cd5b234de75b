#include "wire/exec.hpp"

#include <gtest/gtest.h>

#include <boost/json/serialize.hpp>

#include "wire/signals.hpp"

namespace noid::wire {
namespace {

Result<ExecRequest> parse(std::string_view text) {
    auto value = parse_json(text);
    if (!value) return fail(value.error());
    return ExecRequest::from_json(*value);
}

std::string reason(std::string_view text) {
    const auto request = parse(text);
    if (!request) return request.error().what;
    const auto checked = request->check();
    return checked ? "" : checked.error().what;
}

TEST(ExecRequest, AsTheOriginalClientsSendIt) {
    const auto request = parse(R"({"command":["echo","hi"],"tty":false,"env":["A=1"]})");
    ASSERT_TRUE(request);
    EXPECT_TRUE(request->check());
    EXPECT_EQ(request->command, (std::vector<std::string>{"echo", "hi"}));
    EXPECT_FALSE(request->resumable);
    EXPECT_FALSE(request->stream_stdin);
    EXPECT_TRUE(parse(R"({"command":["x"]})"));
}

TEST(ExecRequest, Refusals) {
    EXPECT_EQ(reason("{}"), "field 'command' is missing");
    EXPECT_EQ(reason(R"({"command":"ls"})"), "field 'command' must be an array of strings");
    EXPECT_EQ(reason(R"({"command":[]})"), "command cannot be empty");
    EXPECT_EQ(reason(R"({"command":[],"tty":true})"), "");
    EXPECT_EQ(reason(R"({"command":["a\u0000b"]})"), "command contains a NUL byte");
    EXPECT_EQ(reason(R"({"command":["a"],"env":["x"]})"), "invalid env var (expected KEY=VALUE): x");
    EXPECT_EQ(reason(R"({"command":["a"],"cwd":"relative"})"), "cwd must be an absolute path");
    EXPECT_EQ(reason(R"({"command":["a"],"timeout_ms":0})"), "timeout_ms must be from 1 to 604800000");
    EXPECT_EQ(reason(R"({"command":["a"],"encoding":"hex"})"),
              "field 'encoding' must be \"utf8\" or \"base64\"");
    EXPECT_EQ(reason(R"({"command":["a"],"stdin":"%","stdin_encoding":"base64"})"),
              "field 'stdin' must be valid base64");
    EXPECT_EQ(reason(R"({"command":["a"],"stdin":"x","stream_stdin":true})"),
              "'stdin' and 'stream_stdin' exclude each other");
    EXPECT_EQ(reason(R"({"command":["a"],"size":{"cols":80}})"), "field 'size': field 'rows' is missing");
    EXPECT_EQ(reason(R"({"command":["a"],"on_disconnect":"x"})"),
              "field 'on_disconnect' must be \"cancel\" or \"detach\"");
}

TEST(ExecRequest, WhatTheClientWritesTheServerReads) {
    ExecRequest request;
    request.command = {"cat"};
    request.cwd = "/tmp";
    request.user = "noid";
    request.input = std::string{"\0\xff", 2};
    request.timeout_ms = 5;
    request.encoding = Encoding::base64;
    request.separate = request.detach = request.resumable = true;
    request.on_disconnect = OnDisconnect::detach;
    request.hold_ms = 7;
    request.size = WindowSize{100, 40};
    const std::string text = json::serialize(to_json(request));
    const auto back = parse(text);
    ASSERT_TRUE(back);
    EXPECT_EQ(back->input, request.input);
    EXPECT_EQ(json::serialize(to_json(*back)), text);
}

TEST(ExecResponse, HasTheOriginalShape) {
    ExecResponse response;
    response.out = "hi\n";
    response.exit_code = 0;
    EXPECT_EQ(json::serialize(to_json(response, Encoding::utf8)),
              R"({"stdout":"hi\n","exit_code":0,"timed_out":false,"truncated":false})");
    response.exit_code.reset();
    response.timed_out = true;
    EXPECT_EQ(json::serialize(to_json(response, Encoding::utf8)),
              R"({"stdout":"hi\n","exit_code":null,"timed_out":true,"truncated":false})");
}

TEST(ExecResponse, BytesAreExactInBase64AndReplacedInText) {
    ExecResponse response;
    response.out = "\xff";
    response.err = "\xfe";
    EXPECT_NE(json::serialize(to_json(response, Encoding::utf8)).find("\xef\xbf\xbd"), std::string::npos);
    const auto back = ExecResponse::from_json(json::value(to_json(response, Encoding::base64)));
    ASSERT_TRUE(back);
    EXPECT_EQ(back->out, response.out);
    EXPECT_EQ(back->err, response.err);
}

TEST(ExecResult, HasTheOriginalShape) {
    ExecResult result;
    result.exit_code = 3;
    EXPECT_EQ(json::serialize(to_json(result)), R"({"exit_code":3,"timed_out":false,"truncated":false})");
    EXPECT_EQ(ExecResult::from_json(json::value(to_json(result))), result);
    EXPECT_FALSE(ExecResult::from_json(*parse_json(R"({"error":"x"})")));
}

TEST(SessionInfo, RoundTrip) {
    SessionInfo session;
    session.id = "00112233445566ff";
    session.kind = "exec";
    session.command = "sleep \xff";
    session.stdout_bytes = 1ULL << 40;
    session.ended = ExecResult{.exit_code = 137, .timed_out = false, .truncated = true, .signal = 9};
    const auto back = SessionInfo::from_json(json::value(to_json(session)));
    ASSERT_TRUE(back);
    EXPECT_EQ(back->command, "sleep \xef\xbf\xbd");
    EXPECT_EQ(back->stdout_bytes, session.stdout_bytes);
    EXPECT_EQ(back->ended, session.ended);
}

TEST(Signals, NamesAndNumbers) {
    EXPECT_EQ(parse_signal("TERM"), 15);
    EXPECT_EQ(parse_signal("sigkill"), 9);
    EXPECT_EQ(parse_signal("64"), 64);
    for (const char* text : {"", "0", "65", "-1", "SIG", "NOPE", "9 ", "99999999999"})
        EXPECT_EQ(parse_signal(text), std::nullopt) << text;
    EXPECT_EQ(signal_name(2), "SIGINT");
    EXPECT_EQ(signal_name(40), "");
}

}  // namespace
}  // namespace noid::wire
