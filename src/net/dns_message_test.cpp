#include "net/dns_message.hpp"

#include <gtest/gtest.h>

#include <array>
#include <random>

namespace noid::net {
namespace {

// Writes DNS messages as they are on the wire.
class Message {
  public:
    Message(std::uint16_t id, std::uint16_t flags) {
        for (const std::uint16_t field :
             {id, flags, std::uint16_t{0}, std::uint16_t{0}, std::uint16_t{0}, std::uint16_t{0}})
            put(field);
    }
    Message& question(std::string_view name, std::uint16_t type = 1, std::uint16_t klass = 1) {
        put_name(name);
        put(type);
        put(klass);
        ++bytes_[5];
        return *this;
    }
    Message& record(std::string_view owner, std::uint16_t type, std::uint32_t ttl, const Bytes& data,
                    std::uint16_t klass = 1) {
        put_name(owner);
        put(type);
        put(klass);
        put(static_cast<std::uint16_t>(ttl >> 16));
        put(static_cast<std::uint16_t>(ttl));
        put(static_cast<std::uint16_t>(data.size()));
        bytes_.insert(bytes_.end(), data.begin(), data.end());
        ++bytes_[7];
        return *this;
    }
    static Bytes name(std::string_view text) {
        Message scratch{0, 0};
        scratch.put_name(text);
        return Bytes(scratch.bytes_.begin() + 12, scratch.bytes_.end());
    }
    [[nodiscard]] const Bytes& bytes() const { return bytes_; }

  private:
    void put(std::uint16_t value) {
        bytes_.push_back(static_cast<std::uint8_t>(value >> 8));
        bytes_.push_back(static_cast<std::uint8_t>(value));
    }
    void put_name(std::string_view text) {
        while (!text.empty()) {
            const auto label = text.substr(0, text.find('.'));
            bytes_.push_back(static_cast<std::uint8_t>(label.size()));
            bytes_.insert(bytes_.end(), label.begin(), label.end());
            text.remove_prefix(std::min(text.size(), label.size() + 1));
        }
        bytes_.push_back(0);
    }

    Bytes bytes_;
};

constexpr std::uint16_t query_flags = 0x0100;
constexpr std::uint16_t answer_flags = 0x8180;
constexpr std::uint16_t type_a = 1;
constexpr std::uint16_t type_cname = 5;

DnsQuery ask(std::string_view name) {
    return parse_dns_query(Message{7, query_flags}.question(name).bytes()).value();
}

TEST(DnsQuery, IsOneQuestion) {
    const auto query = ask("WWW.Example.com");
    EXPECT_EQ(query.id, 7);
    EXPECT_EQ(query.name, "www.example.com");
    EXPECT_EQ(query.type, type_a);
    EXPECT_EQ(query.question_end, Message(7, query_flags).question("www.example.com").bytes().size());
    EXPECT_EQ(ask("").name, "");
}

// Its name would be another one under the number that it is asked on with.
TEST(DnsQuery, IsNoneIfItsNameGoesOnInTheHeader) {
    for (const int place : {0, 4, 5, 11}) {
        Bytes bytes = Message{7, query_flags}.question("www").bytes();
        // In the place of the root.
        bytes[16] = 0xc0;
        bytes.insert(bytes.begin() + 17, static_cast<std::uint8_t>(place));
        EXPECT_FALSE(parse_dns_query(bytes)) << place;
    }
}

TEST(DnsQuery, IsNothingElse) {
    EXPECT_FALSE(parse_dns_query({}));
    EXPECT_FALSE(parse_dns_query(Message{7, query_flags}.bytes()));
    EXPECT_FALSE(parse_dns_query(Message{7, answer_flags}.question("a.test").bytes()));
    EXPECT_FALSE(parse_dns_query(Message{7, 0x2800}.question("a.test").bytes()));  // an update
    EXPECT_FALSE(parse_dns_query(Message{7, query_flags}.question("a.test").question("b.test").bytes()));
    Bytes cut = Message{7, query_flags}.question("a.test").bytes();
    while (!cut.empty()) {
        cut.pop_back();
        EXPECT_FALSE(parse_dns_query(cut)) << cut.size();
    }
    // A name that points at itself.
    Bytes loop = Message{7, query_flags}.bytes();
    loop[5] = 1;
    constexpr std::array<std::uint8_t, 6> itself{0xC0, 0x0C, 0x00, 0x01, 0x00, 0x01};
    loop.insert(loop.end(), itself.begin(), itself.end());
    EXPECT_FALSE(parse_dns_query(loop));
}

TEST(DnsAnswer, GivesTheAddressesOfTheName) {
    const auto query = ask("www.example.com");
    const auto addresses =
        parse_dns_answer(Message{7, answer_flags}
                             .question("WWW.example.com")
                             .record("cdn.test", type_a, 60, {192, 0, 2, 1})
                             .record("www.example.com", type_cname, 30, Message::name("cdn.test"))
                             .record("evil.test", type_a, 60, {192, 0, 2, 66})
                             .record("cdn.test", 28, 60, Bytes(16))
                             .record("cdn.test", type_a, 60, {192, 0, 2, 3}, 3)
                             .bytes(),
                         query);
    ASSERT_TRUE(addresses);
    ASSERT_EQ(addresses->size(), 1U);
    EXPECT_EQ((*addresses)[0].address.to_string(), "192.0.2.1");
    EXPECT_EQ((*addresses)[0].ttl.count(), 60);
}

TEST(DnsAnswer, AliasesThatGoInCirclesEnd) {
    const auto query = ask("a.test");
    const auto addresses = parse_dns_answer(Message{7, answer_flags}
                                                .question("a.test")
                                                .record("a.test", type_cname, 1, Message::name("b.test"))
                                                .record("b.test", type_cname, 1, Message::name("a.test"))
                                                .record("b.test", type_a, 1, {192, 0, 2, 1})
                                                .bytes(),
                                            query);
    ASSERT_TRUE(addresses);
    EXPECT_EQ(addresses->size(), 1U);
}

TEST(DnsAnswer, ToAnotherQuestionIsNone) {
    const auto query = ask("a.test");
    EXPECT_TRUE(parse_dns_answer(Message{7, answer_flags}.question("a.test").bytes(), query));
    EXPECT_FALSE(parse_dns_answer(Message{8, answer_flags}.question("a.test").bytes(), query));
    EXPECT_FALSE(parse_dns_answer(Message{7, answer_flags}.question("b.test").bytes(), query));
    EXPECT_FALSE(parse_dns_answer(Message{7, answer_flags}.question("a.test", 28).bytes(), query));
    EXPECT_FALSE(parse_dns_answer(Message{7, query_flags}.question("a.test").bytes(), query));
    EXPECT_FALSE(parse_dns_answer(Message{7, answer_flags}.bytes(), query));
}

TEST(DnsAnswer, AnyBytesAreRead) {
    const auto query = ask("www.example.com");
    const Bytes good = Message{7, answer_flags}
                           .question("www.example.com")
                           .record("www.example.com", type_cname, 30, Message::name("cdn.test"))
                           .record("cdn.test", type_a, 60, {192, 0, 2, 1})
                           .bytes();
    std::mt19937 random{42};
    for (int round = 0; round < 20'000; ++round) {
        Bytes message = good;
        for (int change = 0; change < 3; ++change)
            message[random() % message.size()] = static_cast<std::uint8_t>(random());
        message.resize(random() % (message.size() + 1));
        const auto addresses = parse_dns_answer(message, query);
        if (addresses) {
            EXPECT_LE(addresses->size(), message.size() / 4);
        }
        static_cast<void>(parse_dns_query(message));
    }
}

TEST(DnsErrorAnswer, RepeatsTheQuestion) {
    Message asked{7, query_flags};
    asked.question("a.test");
    const auto query = parse_dns_query(asked.bytes()).value();
    const auto refused = dns_error_answer(asked.bytes(), query, DnsError::refused);
    EXPECT_EQ(refused[3] & 15, 5);
    EXPECT_TRUE(parse_dns_answer(refused, query)->empty());
    const auto truncated = dns_truncated_answer(asked.bytes(), query);
    EXPECT_NE(truncated[2] & 2, 0);
    EXPECT_TRUE(parse_dns_answer(truncated, query));
}

}  // namespace
}  // namespace noid::net
