#include "api/guest_answer.hpp"

#include <gtest/gtest.h>

namespace noid::api {
namespace {

// What is read out of `bytes`, given in pieces of `step`.
struct Reading {
    unsigned status = 0;
    std::string lines;
    std::optional<std::uint64_t> length;
    std::string protocol;
    std::string body;
    std::string rest;
    std::optional<Error> error;
    bool complete = false;
};

Reading read(std::string_view bytes, std::size_t step, GuestAnswer::Body body = GuestAnswer::Body::any,
             GuestAnswer::Upgrade upgrade = GuestAnswer::Upgrade::not_asked) {
    GuestAnswer answer{body, upgrade};
    Reading reading;
    while (true) {
        auto part = answer.next();
        if (!part) {
            reading.error = part.error();
            return reading;
        }
        if (auto* head = std::get_if<GuestAnswer::Head>(&*part)) {
            reading.status = head->status;
            reading.lines = head->lines.text();
            reading.length = head->length;
            reading.protocol = head->protocol;
            if (head->status != 101) continue;
        } else if (const auto* piece = std::get_if<GuestAnswer::Piece>(&*part)) {
            EXPECT_FALSE(piece->bytes.empty());
            reading.body += piece->bytes;
            continue;
        } else if (std::holds_alternative<GuestAnswer::NeedMore>(*part)) {
            if (bytes.empty()) {
                answer.end();
            } else {
                answer.add(bytes.substr(0, step));
                bytes.remove_prefix(std::min(step, bytes.size()));
            }
            continue;
        }
        reading.complete = true;
        reading.rest = answer.take_rest() + std::string{bytes};
        return reading;
    }
}

TEST(GuestAnswer, IsTheSameInWhateverPiecesItComes) {
    const std::string chunked =
        "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nX-A: 1\r\nConnection: close, "
        "X-Hop\r\n"
        "X-Hop: 2\r\nKeep-Alive: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
        "5\r\nhello\r\n7;extension=1\r\n, world\r\n0\r\nTrailer: x\r\n\r\n";
    for (const std::size_t step : {std::size_t{1}, std::size_t{2}, std::size_t{7}, chunked.size()}) {
        const Reading reading = read(chunked, step);
        EXPECT_TRUE(reading.complete) << step << (reading.error ? reading.error->what : "");
        EXPECT_EQ(reading.status, 200U);
        EXPECT_EQ(reading.lines, "X-A: 1\r\n");
        EXPECT_EQ(reading.body, "hello, world");
        EXPECT_FALSE(reading.length);
    }
}

TEST(GuestAnswer, EndsWhereItSaysSo) {
    const Reading sized = read("HTTP/1.1 404 No\r\nContent-Length: 3\r\n\r\nabcdef", 4);
    EXPECT_TRUE(sized.complete);
    EXPECT_EQ(sized.status, 404U);
    EXPECT_EQ(sized.length, 3U);
    EXPECT_EQ(sized.body, "abc");
    const std::string large(300'000, 'x');
    EXPECT_EQ(read("HTTP/1.0 200 OK\r\n\r\n" + large, 100'000).body, large) << "at the end of the connection";
    const Reading bare = read("HTTP/1.1 204 None\r\n\r\n", 5);
    EXPECT_TRUE(bare.complete);
    EXPECT_EQ(bare.body, "");
    const Reading to_head =
        read("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", 9, GuestAnswer::Body::none);
    EXPECT_TRUE(to_head.complete);
    EXPECT_EQ(to_head.length, 1000U);
}

TEST(GuestAnswer, ChangesTheProtocolOnlyWhenItWasAskedTo) {
    const std::string bytes =
        "HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-B: 1\r\n\r\n\x81\x02hi";
    const Reading reading = read(bytes, bytes.size(), GuestAnswer::Body::any, GuestAnswer::Upgrade::asked);
    EXPECT_EQ(reading.status, 101U);
    EXPECT_EQ(reading.protocol, "websocket");
    EXPECT_EQ(reading.lines, "X-B: 1\r\n");
    EXPECT_EQ(reading.rest, "\x81\x02hi");
    EXPECT_EQ(read(bytes, 3).error.value().code, Errc::corrupt);
}

TEST(GuestAnswer, RefusesWhatIsNoAnswer) {
    const auto code = [](std::string_view bytes, std::size_t step = 1000) {
        const Reading reading = read(bytes, step);
        EXPECT_TRUE(reading.error) << bytes.substr(0, 80);
        return reading.error ? reading.error->code : Errc::internal;
    };
    EXPECT_EQ(code("SSH-2.0-OpenSSH\r\n"), Errc::corrupt);
    EXPECT_EQ(code("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"), Errc::corrupt);
    EXPECT_EQ(code("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), Errc::corrupt);
    EXPECT_EQ(code("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"), Errc::corrupt);
    EXPECT_EQ(code("HTTP/1.1 200 OK\r\nA: " + std::string(100'000, 'a')), Errc::corrupt)
        << "a head without end";
    EXPECT_EQ(code("HTTP/1.1 200 OK\r\n" + std::string(100'000, 'a'), 10), Errc::corrupt);
    std::string hints;
    for (int i = 0; i < 20; ++i) hints += "HTTP/1.1 100 Continue\r\n\r\n";
    EXPECT_EQ(code(hints), Errc::corrupt) << "one interim answer after the other";
    EXPECT_EQ(code("HTTP/1.1 200 OK\r\nContent-Len"), Errc::unavailable);
    EXPECT_EQ(code("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc"), Errc::unavailable);
    EXPECT_EQ(code(""), Errc::unavailable);
}

}  // namespace
}  // namespace noid::api
