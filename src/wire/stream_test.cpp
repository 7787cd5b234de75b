#include "wire/stream.hpp"

#include <gtest/gtest.h>

namespace noid::wire {
namespace {

TEST(ClientMessages, RoundTrip) {
    const std::vector<ClientMessage> messages{InputEnd{},    Detach{},          Cancel{},
                                              SendSignal{9}, Resize{{132, 50}}, Acknowledge{1ULL << 40, 7}};
    for (const ClientMessage& message : messages) {
        const auto back = parse_client_message(to_text(message));
        ASSERT_TRUE(back) << to_text(message);
        EXPECT_EQ(to_text(*back), to_text(message));
    }
}

TEST(ClientMessages, SignalsByName) {
    const auto message = parse_client_message(R"({"type":"signal","signal":"SIGINT"})");
    ASSERT_TRUE(message);
    EXPECT_EQ(std::get<SendSignal>(*message).number, 2);
}

TEST(ClientMessages, Refusals) {
    for (const char* text : {"", "{}", "[]", R"({"type":1})", R"({"type":"nope"})", R"({"type":"signal"})",
                             R"({"type":"signal","signal":"X"})", R"({"type":"resize","cols":0,"rows":1})",
                             R"({"type":"resize","cols":70000,"rows":1})", R"({"type":"ack","stdout":-1})"}) {
        EXPECT_FALSE(parse_client_message(text)) << text;
    }
}

TEST(ServerMessages, RoundTrip) {
    const std::vector<ServerMessage> messages{
        SessionOpened{"0011223344556677", 12, 1, 2, 3},
        InputTaken{9},
        OutputDropped{Channel::error_output, 5},
        OutputEnd{Channel::output},
        ExecResult{.exit_code = 0, .timed_out = false, .truncated = false, .signal = {}},
        ErrorBody{"VM 'a' not found", "not_found", ""}};
    for (const ServerMessage& message : messages) {
        const auto back = parse_server_message(to_text(message));
        ASSERT_TRUE(back) << to_text(message);
        EXPECT_EQ(back->index(), message.index());
        EXPECT_EQ(to_text(*back), to_text(message));
    }
}

TEST(ServerMessages, ControlMessagesCannotBeMistakenForAResult) {
    // The TypeScript SDK takes every text with one of these keys for the end.
    const std::vector<ServerMessage> messages{SessionOpened{"0011223344556677", 12, 1, 2, 3}, InputTaken{9},
                                              OutputDropped{Channel::error_output, 5},
                                              OutputEnd{Channel::output}};
    for (const ServerMessage& message : messages) {
        for (const char* key : {"exit_code", "timed_out", "error"})
            EXPECT_EQ(to_text(message).find(key), std::string::npos);
    }
}

TEST(Resize, BothForms) {
    const auto binary = parse_resize(resize_payload({258, 24}));
    ASSERT_TRUE(binary);
    EXPECT_EQ(binary->cols, 258);
    EXPECT_EQ(binary->rows, 24);
    const auto text = parse_resize(R"({"cols":80,"rows":25})");
    ASSERT_TRUE(text);
    EXPECT_EQ(text->rows, 25);
    for (const std::string_view payload :
         {std::string_view{""}, std::string_view{"abc"}, std::string_view{"\0\0\0\1", 4},
          std::string_view{"{}"}, std::string_view{"{"}}) {
        EXPECT_FALSE(parse_resize(payload));
    }
}

}  // namespace
}  // namespace noid::wire
