#include "proto/frame.hpp"

#include <gtest/gtest.h>

#include "proto/crc32c.hpp"

namespace noid::proto {
namespace {

constexpr std::uint64_t nonce = 0x1122334455667788;

std::string frame(FrameType type, std::uint32_t epoch, std::string_view payload, std::uint64_t id = nonce) {
    std::string bytes;
    append_frame(bytes, {.type = type, .epoch = epoch, .id = id, .offset = 5}, payload);
    return bytes;
}

void feed(FrameReader& reader, std::string_view bytes) {
    const auto space = reader.prepare();
    ASSERT_GE(space.size(), bytes.size());
    bytes.copy(space.data(), bytes.size());
    reader.commit(bytes.size());
}

// Skips errors, as the agent does.
std::optional<Frame> next(FrameReader& reader, int* errors = nullptr) {
    while (true) {
        const auto result = reader.next();
        if (result) return *result;
        if (errors) ++*errors;
    }
}

TEST(Crc32c, HasThePublishedCheckValue) {
    EXPECT_EQ(crc32c("123456789"), 0xE3069283U);
    EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAU);  // RFC 3720, B.4
}

TEST(FrameReader, GivesFramesHoweverTheBytesArrive) {
    const std::string bytes = frame(FrameType::hello, 9, "hi") +
                              frame(FrameType::data, 9, std::string(1000, 'x')) +
                              frame(FrameType::ack, 9, "");
    for (const std::size_t piece : {std::size_t{1}, std::size_t{7}, bytes.size()}) {
        FrameReader reader{FrameReader::Side::agent};
        std::vector<std::pair<FrameType, std::string>> got;
        for (std::size_t at = 0; at < bytes.size(); at += piece) {
            feed(reader, std::string_view{bytes}.substr(at, piece));
            while (const auto one = next(reader)) {
                EXPECT_EQ(one->header.offset, 5U);
                got.emplace_back(one->header.type, one->payload);
            }
        }
        ASSERT_EQ(got.size(), 3U);
        EXPECT_EQ(got[1], (std::pair{FrameType::data, std::string(1000, 'x')}));
    }
}

TEST(FrameReader, SkipsWhatCameBeforeItsOwnHandshake) {
    FrameReader reader{FrameReader::Side::host};
    reader.expect(nonce);
    // The rest of a frame, frames of the connection before, and an answer to another hello.
    feed(reader, frame(FrameType::data, 1, "old").substr(10) + frame(FrameType::data, 1, "old") +
                     frame(FrameType::hello_ack, 1, "old", nonce + 1) +
                     frame(FrameType::hello_ack, 2, "mine"));
    const auto one = next(reader);
    ASSERT_TRUE(one);
    EXPECT_EQ(one->payload, "mine");
}

TEST(FrameReader, FindsAHelloThatACutFrameSwallowed) {
    FrameReader reader{FrameReader::Side::agent};
    feed(reader, frame(FrameType::hello, 1, "first") +
                     frame(FrameType::data, 1, std::string(60'000, 'x')).substr(0, 500));
    feed(reader, frame(FrameType::hello, 2, "second"));
    EXPECT_EQ(next(reader)->payload, "first");
    EXPECT_FALSE(next(reader)) << "the second is taken for payload so far";
    feed(reader, std::string(max_frame, '\0') + frame(FrameType::hello, 2, "third"));
    int errors = 0;
    EXPECT_EQ(next(reader, &errors)->payload, "second");
    EXPECT_EQ(errors, 1);
    EXPECT_EQ(next(reader, &errors)->payload, "third");
    EXPECT_FALSE(next(reader));
}

TEST(FrameReader, TakesAHelloInTheMiddleOfAConnection) {
    FrameReader reader{FrameReader::Side::agent};
    feed(reader, frame(FrameType::hello, 1, "first") + frame(FrameType::hello, 2, "second") +
                     frame(FrameType::data, 2, "new") + frame(FrameType::data, 1, "old"));
    EXPECT_EQ(next(reader)->payload, "first");
    EXPECT_EQ(next(reader)->payload, "second");
    EXPECT_EQ(next(reader)->payload, "new");
    EXPECT_FALSE(reader.next());
}

TEST(FrameReader, RefusesWhatIsNoFrame) {
    const std::string good = frame(FrameType::data, 1, "payload");
    for (std::size_t at = 0; at < good.size(); ++at) {
        if (at >= header_size && at < good.size() - trailer_size) continue;  // the payload is not checked
        std::string bad = good;
        bad[at] = static_cast<char>(bad[at] ^ 0x10);
        FrameReader reader{FrameReader::Side::agent};
        feed(reader, frame(FrameType::hello, 1, "") + bad);
        ASSERT_TRUE(next(reader));
        EXPECT_FALSE(reader.next()) << at;
    }
}

}  // namespace
}  // namespace noid::proto
