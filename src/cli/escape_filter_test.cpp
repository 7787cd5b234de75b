#include "cli/escape_filter.hpp"

#include <gtest/gtest.h>

namespace noid::cli {
namespace {

TEST(EscapeFilter, LeavesAtTildeDotOnALineOfItsOwn) {
    for (const auto* typed : {"~.", "~d", "ls\r~.rest", "ls\n~d"})
        EXPECT_TRUE(EscapeFilter{}.feed(typed).leave);
}

TEST(EscapeFilter, DropsWhatFollowsTheWish) {
    const auto typed = EscapeFilter{}.feed("ls\r~.rest");
    EXPECT_EQ(typed.bytes, "ls\r");
}

TEST(EscapeFilter, PassesTildesThatAreNoWish) {
    for (const auto* typed : {"a~.", "cd ~/x\r", "~/bin\r", "~x"}) {
        const auto out = EscapeFilter{}.feed(typed);
        EXPECT_FALSE(out.leave) << typed;
        EXPECT_EQ(out.bytes, typed);
    }
}

TEST(EscapeFilter, TwoTildesAreOne) {
    const auto typed = EscapeFilter{}.feed("~~.");
    EXPECT_FALSE(typed.leave);
    EXPECT_EQ(typed.bytes, "~.");
}

TEST(EscapeFilter, TheWishMayComeInPieces) {
    EscapeFilter filter;
    EXPECT_EQ(filter.feed("~").bytes, "");
    EXPECT_TRUE(filter.feed(".").leave);
}

}  // namespace
}  // namespace noid::cli
