#include "cli/server_url.hpp"

#include <gtest/gtest.h>

namespace noid::cli {
namespace {

std::string reason(std::string_view text) {
    const auto url = ServerUrl::parse(text);
    return url ? "" : url.error().what;
}

TEST(ServerUrl, IsTakenApart) {
    const auto url = ServerUrl::parse("  http://example.org:7654/noid//  ");
    ASSERT_TRUE(url);
    EXPECT_EQ(url->text, "http://example.org:7654/noid");
    EXPECT_FALSE(url->tls);
    EXPECT_EQ(url->host, "example.org");
    EXPECT_EQ(url->port, 7654);
    EXPECT_EQ(url->path, "/noid");
    EXPECT_EQ(url->authority(), "example.org:7654");
}

TEST(ServerUrl, HasTheSchemesPort) {
    EXPECT_EQ(ServerUrl::parse("http://h")->port, 80);
    const auto secure = ServerUrl::parse("HTTPS://h");
    EXPECT_TRUE(secure->tls);
    EXPECT_EQ(secure->port, 443);
    EXPECT_EQ(secure->authority(), "h");
    EXPECT_EQ(ServerUrl::parse("https://h:80")->authority(), "h:80");
}

TEST(ServerUrl, KnowsIpv6) {
    const auto url = ServerUrl::parse("http://[::1]:7654");
    EXPECT_EQ(url->host, "::1");
    EXPECT_EQ(url->authority(), "[::1]:7654");
}

TEST(ServerUrl, RefusalsHaveTheTextsThatUsersKnow) {
    EXPECT_EQ(reason(""), "server URL cannot be empty");
    EXPECT_EQ(reason(" / "), "server URL cannot be empty");
    EXPECT_EQ(reason("host:7654"), "server URL must include scheme (http:// or https://)");
    EXPECT_EQ(reason("ftp://h"), "unsupported URL scheme 'ftp' (expected http:// or https://)");
    EXPECT_EQ(reason("http://"), "server URL must include host");
    EXPECT_EQ(reason("http://:80"), "server URL must include host");
}

TEST(ServerUrl, RefusesWhatHasNoMeaning) {
    for (const auto* text :
         {"http://u:p@h", "http://h?q", "http://h#f", "http://h:99999", "http://h:0", "http://h h"})
        EXPECT_NE(reason(text), "") << text;
}

TEST(QueryValue, IsEncoded) {
    EXPECT_EQ(encode_query_value("/a b&c=d/ü"), "%2Fa%20b%26c%3Dd%2F%C3%BC");
}

}  // namespace
}  // namespace noid::cli
