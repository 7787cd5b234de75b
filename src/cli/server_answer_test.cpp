#include "cli/server_answer.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace noid::cli {
namespace {

TEST(ServerAnswer, IsTheServersTextWithTheStatus) {
    const auto error = error_of_answer(404, R"({"error":"VM 'x' not found","code":"not_found"})");
    EXPECT_EQ(error.code, Errc::not_found);
    EXPECT_EQ(error.what, "server error (404): VM 'x' not found");
}

TEST(ServerAnswer, TheServersCodeSaysMoreThanTheStatus) {
    EXPECT_EQ(error_of_answer(403, R"({"error":"x","code":"limit_exceeded"})").code, Errc::limit_exceeded);
    EXPECT_EQ(error_of_answer(403, R"({"error":"x","code":"something new"})").code, Errc::forbidden);
    EXPECT_EQ(error_of_answer(403, R"({"error":"x"})").code, Errc::forbidden);
}

TEST(ServerAnswer, WhatIsNoErrorObjectIsShownAsItIsButBoundedAndHarmless) {
    EXPECT_EQ(error_of_answer(502, "bad\x1b[2J").what, "server error (502): bad\\x1b[2J");
    EXPECT_LT(error_of_answer(502, std::string(100'000, 'x')).what.size(), 4096U);
}

TEST(ServerAnswer, AWrongTokenIsToldWhatToDo) {
    EXPECT_THAT(error_of_answer(401, R"({"error":"invalid token"})").what,
                testing::HasSubstr("noid auth setup"));
}

TEST(ApiVersion, MustBeOurs) {
    EXPECT_TRUE(check_api_version("1"));
    for (const auto* text : {"2", "", "x", "1x", "-1"}) EXPECT_FALSE(check_api_version(text)) << text;
}

}  // namespace
}  // namespace noid::cli
