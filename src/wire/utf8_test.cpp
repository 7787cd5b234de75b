#include "wire/utf8.hpp"

#include <gtest/gtest.h>

namespace noid::wire {
namespace {

TEST(Utf8, TextStaysAsItIs) {
    for (const char* text :
         {"", "plain", "Grüße", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xed\x9f\xbf", "\xf4\x8f\xbf\xbf"}) {
        EXPECT_TRUE(is_utf8(text)) << text;
        EXPECT_EQ(to_utf8(text), text);
    }
}

TEST(Utf8, MalformedSequencesAreReplacedOneByOne) {
    EXPECT_EQ(to_utf8("a\x80z"), "a\xef\xbf\xbdz");
    EXPECT_EQ(to_utf8("a\xff\xfe"), "a\xef\xbf\xbd\xef\xbf\xbd");
    EXPECT_EQ(to_utf8("\xe2\x82"), "\xef\xbf\xbd");    // cut off
    EXPECT_EQ(to_utf8("\xe2\x82z"), "\xef\xbf\xbdz");  // the next character survives
    EXPECT_FALSE(is_utf8("\xc0\xaf"));                 // overlong
    EXPECT_FALSE(is_utf8("\xe0\x80\xaf"));
    EXPECT_FALSE(is_utf8("\xed\xa0\x80"));      // surrogate
    EXPECT_FALSE(is_utf8("\xf4\x90\x80\x80"));  // beyond U+10FFFF
}

}  // namespace
}  // namespace noid::wire
