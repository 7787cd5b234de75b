#include "firecracker/version.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace noid::firecracker {
namespace {

TEST(Version, IsReadFromWhatTheProgramPrints) {
    const auto version = parse_version(
        "Firecracker v1.16.1\n\n2026-11-25T09:01:05.934004773 [anonymous-instance:main] Firecracker exiting "
        "successfully. exit_code=0\n");
    ASSERT_TRUE(version);
    EXPECT_EQ(*version, (Version{1, 16, 1}));
    EXPECT_EQ(to_string(*version), "1.16.1");
}

TEST(Version, IsReadFromADevelopmentBuild) {
    EXPECT_EQ(parse_version("Firecracker v1.17.0-dev\n"), (Version{1, 17, 0}));
}

TEST(Version, IsNotGuessed) {
    for (const auto* text : {"", "QEMU emulator version 7.2.22", "Firecracker v", "Firecracker v1.16",
                             "Firecracker v1.x.1", "Firecracker v99999999999.1.1"}) {
        const auto version = parse_version(text);
        ASSERT_FALSE(version) << text;
        EXPECT_EQ(version.error().code, Errc::corrupt);
    }
}

TEST(Features, AnOldVersionIsRefusedWithTheReason) {
    const auto features = features_of({1, 16, 0});
    ASSERT_FALSE(features);
    EXPECT_EQ(features.error().code, Errc::unsupported);
    EXPECT_THAT(features.error().what, testing::HasSubstr("1.16.0 is too old: before 1.16.1"));
}

TEST(Features, ABarePauseIsSafeOnlyAfter116) {
    EXPECT_FALSE(features_of({1, 16, 1})->bare_pause);
    EXPECT_FALSE(features_of({1, 16, 9})->bare_pause);
    EXPECT_TRUE(features_of({1, 17, 0})->bare_pause);
    EXPECT_TRUE(features_of({2, 0, 0})->bare_pause);
}

}  // namespace
}  // namespace noid::firecracker
