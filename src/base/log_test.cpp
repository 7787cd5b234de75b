#include "base/log.hpp"

#include <gtest/gtest.h>

namespace noid::log {
namespace {

TEST(Log, PlainValuesStayPlainAndOthersAreQuoted) {
    EXPECT_EQ(to_text({{"vm", "web-1"}, {"why", "two words"}, {"none", ""}}),
              " vm=web-1 why=\"two words\" none=\"\"");
}

TEST(Log, OneLineStaysOneLine) {
    EXPECT_EQ(to_text({{"v", "a\nb\x1b[31m"}}), " v=a\\x0ab\\x1b[31m");
    EXPECT_EQ(to_text({{"v", "x\" level=error"}}), " v=\"x\\\" level=error\"");
}

TEST(Log, JsonText) {
    EXPECT_EQ(escape_json("a\"b\\c\n\xc3\xa4"), "a\\\"b\\\\c\\u000a\xc3\xa4");
}

}  // namespace
}  // namespace noid::log
