#include "cli/table.hpp"

#include <gtest/gtest.h>

namespace noid::cli {
namespace {

TEST(Table, HasARuleBetweenEveryTwoRows) {
    Table table{{"name", "state"}};
    table.add({"dev", "running"});
    table.add({"longer-name", "dead"});
    EXPECT_EQ(table.text(),
              "+-------------+---------+\n"
              "| name        | state   |\n"
              "+-------------+---------+\n"
              "| dev         | running |\n"
              "+-------------+---------+\n"
              "| longer-name | dead    |\n"
              "+-------------+---------+\n");
}

TEST(Table, CountsCharactersAndShowsControls) {
    Table table{{"a", "b"}};
    table.add({"ü", "\x1b[2J"});
    table.add({"short row"});
    EXPECT_EQ(table.text(),
              "+-----------+---------+\n"
              "| a         | b       |\n"
              "+-----------+---------+\n"
              "| ü         | \\x1b[2J |\n"
              "+-----------+---------+\n"
              "| short row |         |\n"
              "+-----------+---------+\n");
}

}  // namespace
}  // namespace noid::cli
