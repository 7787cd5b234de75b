#include "wire/base64.hpp"

#include <gtest/gtest.h>

namespace noid::wire {
namespace {

TEST(Base64, KnownVectors) {
    EXPECT_EQ(to_base64(""), "");
    EXPECT_EQ(to_base64("f"), "Zg==");
    EXPECT_EQ(to_base64("fo"), "Zm8=");
    EXPECT_EQ(to_base64("foo"), "Zm9v");
    EXPECT_EQ(to_base64(std::string_view{"\0\xff", 2}), "AP8=");
}

TEST(Base64, AnyBytesComeBack) {
    std::string bytes;
    for (int i = 0; i < 3000; ++i) {
        bytes.push_back(static_cast<char>(i * 7));
        ASSERT_EQ(from_base64(to_base64(bytes)), bytes);
    }
    bytes.assign((3U << 20) + 1, '\x80');
    EXPECT_EQ(from_base64(to_base64(bytes)), bytes);
}

TEST(Base64, RefusesEverythingElse) {
    for (const char* text : {"Zg", "Zg=", "Zm9v\n", "Zg==Zg==", "====", "Z===", "Zm9v ", "Zm-_", " Zm9",
                             // with bits that belong to no byte
                             "Zh==", "Zm9="}) {
        EXPECT_FALSE(from_base64(text)) << text;
    }
}

}  // namespace
}  // namespace noid::wire
