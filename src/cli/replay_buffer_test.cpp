#include "cli/replay_buffer.hpp"

#include <gtest/gtest.h>

namespace noid::cli {
namespace {

std::string all_from(const ReplayBuffer& buffer, std::uint64_t offset) {
    std::string out;
    for (auto bytes = buffer.from(offset); !bytes.empty(); bytes = buffer.from(offset + out.size()))
        out += bytes;
    return out;
}

TEST(ReplayBuffer, GivesEveryOffsetThatIsNotForgotten) {
    ReplayBuffer buffer;
    buffer.append("hello ");
    buffer.append("");
    buffer.append("world");
    EXPECT_EQ(all_from(buffer, 0), "hello world");
    EXPECT_EQ(all_from(buffer, 4), "o world");
    EXPECT_EQ(all_from(buffer, 6), "world");
    EXPECT_EQ(buffer.from(11), "");
    EXPECT_EQ(buffer.size(), 11U);
}

TEST(ReplayBuffer, ForgetsBelowAnOffsetOnly) {
    ReplayBuffer buffer;
    buffer.append("hello ");
    buffer.append("world");
    buffer.forget_below(3);
    EXPECT_EQ(buffer.begin(), 3U);
    EXPECT_EQ(buffer.from(2), "");
    EXPECT_EQ(all_from(buffer, 3), "lo world");
    buffer.forget_below(1);  // not back again
    EXPECT_EQ(buffer.begin(), 3U);
    buffer.forget_below(8);
    EXPECT_EQ(all_from(buffer, 8), "rld");
    buffer.forget_below(100);
    EXPECT_EQ(buffer.begin(), 11U);
    EXPECT_EQ(buffer.size(), 0U);
    buffer.append("!");
    EXPECT_EQ(all_from(buffer, 11), "!");
}

TEST(ReplayBuffer, MayBeginInTheMiddleOfAStream) {
    ReplayBuffer buffer{1000};
    buffer.append("abc");
    EXPECT_EQ(buffer.from(999), "");
    EXPECT_EQ(all_from(buffer, 1001), "bc");
    EXPECT_EQ(buffer.end(), 1003U);
}

}  // namespace
}  // namespace noid::cli
