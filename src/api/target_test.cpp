#include "api/target.hpp"

#include <gtest/gtest.h>

namespace noid::api {
namespace {

using Segments = std::vector<std::string>;

TEST(Target, TakesPathAndQueryApart) {
    const auto target = Target::parse("/v1/vms/web-1/logs?tail=10&follow&path=%2Fetc%2Fa+b");
    ASSERT_TRUE(target);
    EXPECT_EQ(target->segments, (Segments{"v1", "vms", "web-1", "logs"}));
    EXPECT_FALSE(target->trailing_slash);
    EXPECT_EQ(target->find("tail"), "10");
    EXPECT_EQ(target->find("follow"), "");
    EXPECT_EQ(target->find("path"), "/etc/a b");
    EXPECT_EQ(target->find("none"), std::nullopt);
}

TEST(Target, SlashesAndEmptyParts) {
    EXPECT_EQ(Target::parse("/")->segments, Segments{});
    EXPECT_EQ(Target::parse("/v1/vms/")->segments, (Segments{"v1", "vms"}));
    EXPECT_TRUE(Target::parse("/v1/vms/")->trailing_slash);
    EXPECT_EQ(Target::parse("/a//b")->segments, (Segments{"a", "", "b"}));
}

TEST(Target, AnEscapedSlashDoesNotSplitAndPlusIsLiteralInPaths) {
    EXPECT_EQ(Target::parse("/v1/a%2Fb/c+d")->segments, (Segments{"v1", "a/b", "c+d"}));
    EXPECT_EQ(Target::parse("/v1/%2e%2e/x")->segments, (Segments{"v1", "..", "x"}));
}

TEST(Target, RefusesWhatIsMalformed) {
    for (const std::string_view text :
         {"", "v1", "http://host/v1", "*", "/%", "/%4", "/%zz", "/%00", "/a?x=%0", "/a?%00=1"}) {
        EXPECT_FALSE(Target::parse(text)) << text;
    }
    std::string deep;
    for (int i = 0; i < 17; ++i) deep += "/a";
    EXPECT_FALSE(Target::parse(deep));
    std::string wide = "/?";
    for (int i = 0; i < 33; ++i) wide += "a=b&";
    EXPECT_FALSE(Target::parse(wide));
}

TEST(Target, NumbersAndFlags) {
    const auto target = Target::parse("/?n=5&bad=5x&neg=-1&on&off=false&odd=2");
    ASSERT_TRUE(target);
    EXPECT_EQ(*number_parameter(*target, "n", 1, 9), 5U);
    EXPECT_EQ(*number_parameter(*target, "none", 1, 9), std::nullopt);
    EXPECT_EQ(number_parameter(*target, "n", 6, 9).error().what,
              "parameter 'n' must be an integer from 6 to 9");
    EXPECT_FALSE(number_parameter(*target, "bad", 0, 9));
    EXPECT_FALSE(number_parameter(*target, "neg", 0, 9));
    EXPECT_TRUE(*flag_parameter(*target, "on"));
    EXPECT_FALSE(*flag_parameter(*target, "off"));
    EXPECT_FALSE(*flag_parameter(*target, "none"));
    EXPECT_FALSE(flag_parameter(*target, "odd"));
}

}  // namespace
}  // namespace noid::api
