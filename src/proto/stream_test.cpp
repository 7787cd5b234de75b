#include "proto/stream.hpp"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace noid::proto {
namespace {

TEST(ByteRing, HoldsWhatAStringWould) {
    std::mt19937_64 random{7};
    ByteRing ring{1 << 12};
    std::string expected;
    for (int i = 0; i < 20'000; ++i) {
        std::string bytes(random() % 900, static_cast<char>('a' + i % 26));
        const std::size_t taken = ring.append(bytes);
        ASSERT_EQ(taken, std::min(bytes.size(), (1UL << 12) - expected.size()));
        expected += bytes.substr(0, taken);
        ASSERT_EQ(ring.size(), expected.size());
        const std::size_t from = expected.empty() ? 0 : random() % expected.size();
        const auto view = ring.view(from, 300);
        ASSERT_EQ(view, expected.substr(from, view.size()));
        const std::size_t gone = random() % (expected.size() + 1);
        ring.discard(gone);
        expected.erase(0, gone);
    }
}

TEST(SendStream, HoldsUntilAcknowledgedAndNoMoreThanTheWindow) {
    SendStream stream{16};
    EXPECT_EQ(stream.append("0123456789abcdefXYZ"), 16U);
    EXPECT_EQ(stream.pending(4), "0123");
    stream.advance(4);
    EXPECT_EQ(stream.pending(100), "456789abcdef");
    EXPECT_EQ(stream.room(), 0U);
    EXPECT_FALSE(stream.acknowledge(5)) << "never sent";
    ASSERT_TRUE(stream.acknowledge(3));
    EXPECT_EQ(stream.room(), 3U);
    ASSERT_TRUE(stream.acknowledge(1)) << "an old one changes nothing";
    EXPECT_EQ(stream.base(), 3U);
}

TEST(SendStream, RewindsOnlyToWhatIsHeld) {
    SendStream stream{16};
    stream.append("0123456789");
    stream.advance(10);
    ASSERT_TRUE(stream.acknowledge(4));
    EXPECT_FALSE(stream.rewind(3));
    EXPECT_FALSE(stream.rewind(11));
    ASSERT_TRUE(stream.rewind(6));
    EXPECT_EQ(stream.pending(100), "6789");
    ASSERT_TRUE(stream.rewind(4));
    EXPECT_EQ(stream.pending(100), "456789");
}

TEST(SendStream, MakesRoomByForgettingTheOldest) {
    SendStream stream{8};
    stream.append("01234567");
    stream.make_room(3);
    EXPECT_EQ(stream.base(), 3U);
    EXPECT_EQ(stream.sent(), 3U);
    EXPECT_EQ(stream.append("89a"), 3U);
    EXPECT_EQ(stream.end(), 11U);
}

TEST(ReceiveStream, TrimsWhatItHasAndRefusesGapsAndFloods) {
    ReceiveStream stream{10};
    EXPECT_EQ(stream.accept(0, "0123"), "0123");
    EXPECT_EQ(stream.accept(2, "2345"), "45");
    EXPECT_EQ(stream.accept(0, "01"), "");
    EXPECT_FALSE(stream.accept(7, "7"));
    EXPECT_FALSE(stream.accept(6, "6789a"));
    stream.consume(3);
    EXPECT_EQ(stream.accept(6, "6789abc"), "6789abc");
    stream.consume(100);
    EXPECT_EQ(stream.consumed(), 13U) << "no further than what was received";
}

TEST(ReceiveStream, SaysWhenAnAcknowledgementIsDue) {
    ReceiveStream stream{100};
    ASSERT_TRUE(stream.accept(0, std::string(60, 'x')));
    EXPECT_FALSE(stream.due());
    stream.consume(10);
    EXPECT_TRUE(stream.due());
    EXPECT_FALSE(stream.urgent());
    stream.consume(25);
    EXPECT_TRUE(stream.urgent());
    EXPECT_EQ(stream.announce(), 25U);
    EXPECT_FALSE(stream.due());
    stream.announce_again();
    EXPECT_TRUE(stream.due());
}

}  // namespace
}  // namespace noid::proto
