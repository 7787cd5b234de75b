#include "cli/console_input.hpp"

#include <gtest/gtest.h>

namespace noid::cli {
namespace {

TEST(ConsoleInput, PassesOnWhatIsTyped) {
    ConsoleInput input;
    EXPECT_EQ(input.feed("ls -l\r").bytes, "ls -l\r");
    EXPECT_EQ(input.feed("\x1b[A").bytes, "\x1b[A");
    EXPECT_EQ(input.feed("\x1b").bytes, "\x1b");
}

TEST(ConsoleInput, TheLineExitLeavesAndWipesItInTheGuest) {
    ConsoleInput input;
    EXPECT_EQ(input.feed(" ex").bytes, " ex");
    const auto typed = input.feed("it \rmore");
    EXPECT_TRUE(typed.leave);
    EXPECT_EQ(typed.bytes, "it \x15");
}

TEST(ConsoleInput, CorrectionsCount) {
    ConsoleInput input;
    EXPECT_TRUE(input.feed("exot\x7f\x7fit\r").leave);
}

TEST(ConsoleInput, OtherLinesDoNotLeave) {
    ConsoleInput input;
    for (const auto* line : {"exit 1\r", "xexit\r", "exit;\r", "\r"})
        EXPECT_FALSE(input.feed(line).leave) << line;
}

TEST(ConsoleInput, ALineThatKeysMayHaveChangedDoesNotLeave) {
    ConsoleInput input;
    EXPECT_FALSE(input.feed("exit\x1b[D\r").leave);
    EXPECT_FALSE(input.feed("ex\tit\r").leave);
    EXPECT_TRUE(input.feed("exit\r").leave);  // the next line is known again
}

TEST(ConsoleInput, PastedLineBreaksBecomeEnterAndTheMarksStayHere) {
    ConsoleInput input;
    EXPECT_EQ(input.feed("\x1b[200~a\nb\x1b[201~").bytes, "a\rb");
    EXPECT_EQ(input.feed("a\n").bytes, "a\n");
}

}  // namespace
}  // namespace noid::cli
