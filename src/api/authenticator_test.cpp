#include "api/authenticator.hpp"

#include <gtest/gtest.h>

namespace noid::api {
namespace {

using std::chrono::seconds;

TEST(FailureWindow, BlocksAtTheLimitUntilTheWindowIsOver) {
    FailureWindow window{3, seconds{60}, 10};
    const FailureWindow::Clock::time_point start{};
    for (int i = 0; i < 3; ++i) {
        EXPECT_EQ(window.blocked_for("a", start), std::nullopt);
        window.count_failure("a", start + seconds{i});
    }
    EXPECT_EQ(window.blocked_for("a", start + seconds{20}), seconds{40});
    EXPECT_EQ(window.blocked_for("b", start + seconds{20}), std::nullopt);
    EXPECT_EQ(window.blocked_for("a", start + seconds{60}), std::nullopt);
    window.count_failure("a", start + seconds{61});
    EXPECT_EQ(window.blocked_for("a", start + seconds{61}), std::nullopt) << "a new window counts from zero";
}

TEST(FailureWindow, MemoryIsBounded) {
    FailureWindow window{3, seconds{60}, 100};
    const FailureWindow::Clock::time_point now{};
    for (int i = 0; i < 10000; ++i) window.count_failure("key" + std::to_string(i), now);
    EXPECT_EQ(window.size(), 100U);
}

class AuthenticatorTest : public ::testing::Test {
  protected:
    // A tenant is only passed through: the pointer is enough to tell the outcomes apart.
    const std::string good = std::string(16, 'a') + std::string(48, 'b');
    Authenticator authenticator{[this](std::string_view token) -> Result<std::shared_ptr<vm::Tenant>> {
        if (token == good || token == "noid_tok_" + good) return std::shared_ptr<vm::Tenant>{};
        return fail(Errc::unauthenticated, "invalid token");
    }};
    FailureWindow::Clock::time_point now{};

    Errc refused(std::string_view header, std::string_view source) {
        const auto outcome = authenticator.authenticate(header, source, now);
        const auto* refusal = std::get_if<Refusal>(&outcome);
        return refusal == nullptr ? Errc::internal : refusal->error.code;
    }
    bool admitted(const std::string& token, std::string_view source) {
        return refused("Bearer " + token, source) == Errc::internal;
    }
};

TEST_F(AuthenticatorTest, SchemeIsExact) {
    EXPECT_TRUE(admitted(good, "10.0.0.1"));
    EXPECT_TRUE(admitted("noid_tok_" + good, "10.0.0.1"));
    for (const std::string& header :
         {std::string{}, good, "bearer " + good, "Basic " + good, std::string{"Bearer"}, "Bearer\t" + good})
        EXPECT_EQ(refused(header, "10.0.0.2"), Errc::unauthenticated) << header;
    EXPECT_EQ(refused("Bearer  " + good, "10.0.0.2"), Errc::unauthenticated) << "two spaces";
}

TEST_F(AuthenticatorTest, AMissingHeaderIsNotCounted) {
    for (int i = 0; i < 50; ++i) EXPECT_EQ(refused("", "10.0.0.1"), Errc::unauthenticated);
    EXPECT_TRUE(admitted(good, "10.0.0.1"));
}

TEST_F(AuthenticatorTest, ASourceThatFailsTenTimesIsBlockedForAMinute) {
    for (int i = 0; i < 10; ++i)
        EXPECT_EQ(refused("Bearer guess" + std::to_string(i) + std::string(20, 'x'), "10.0.0.1"),
                  Errc::unauthenticated);
    EXPECT_EQ(refused("Bearer " + good, "10.0.0.1"), Errc::rate_limited);
    EXPECT_TRUE(admitted(good, "10.0.0.2"));
    now += seconds{61};
    EXPECT_TRUE(admitted(good, "10.0.0.1"));
}

TEST_F(AuthenticatorTest, KnowingSomeDigitsDoesNotLockTheOwnerOut) {
    const std::string guess = good.substr(0, 16) + std::string(48, 'c');
    for (int i = 0; i < 10; ++i) static_cast<void>(refused("Bearer " + guess, "10.0.1." + std::to_string(i)));
    EXPECT_EQ(refused("Bearer " + guess, "10.0.2.1"), Errc::rate_limited);
    EXPECT_EQ(refused("Bearer noid_tok_" + guess, "10.0.2.2"), Errc::rate_limited);
    EXPECT_TRUE(admitted(good, "10.0.0.9")) << "a source that never failed";
    EXPECT_EQ(refused("Bearer " + good, "10.0.1.1"), Errc::rate_limited) << "a source that did";
}

TEST(Sources, OneHostIsOneSource) {
    EXPECT_EQ(source_of("10.1.2.3"), "10.1.2.3");
    EXPECT_EQ(source_of("2001:db8::1"), source_of("2001:db8::ffff:1"));
    EXPECT_NE(source_of("2001:db8::1"), source_of("2001:db8:0:1::1"));
    EXPECT_EQ(source_of("::ffff:10.1.2.3"), "10.1.2.3");
    EXPECT_EQ(source_of("unix"), "unix");
}

TEST(Sources, OnlyTheNearestProxyIsBelieved) {
    EXPECT_EQ(forwarded_address("1.1.1.1, 10.0.0.5"), "10.0.0.5");
    EXPECT_EQ(forwarded_address(" 2001:db8::1 "), "2001:db8::1");
    for (const char* header : {"", "nonsense", "1.1.1.1,", "1.1.1.1, x"})
        EXPECT_EQ(forwarded_address(header), "") << header;
}

}  // namespace
}  // namespace noid::api
