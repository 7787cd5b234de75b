#include "cli/copy_place.hpp"

#include <gtest/gtest.h>

namespace noid::cli {
namespace {

using enum CopyPlace::Where;

TEST(CopyPlace, AColonBeforeAnySlashNamesAVm) {
    EXPECT_EQ(*CopyPlace::parse("web:/etc/hosts"), (CopyPlace{guest, "web", "/etc/hosts"}));
    EXPECT_EQ(*CopyPlace::parse(":/etc"), (CopyPlace{guest, std::nullopt, "/etc"}));
    EXPECT_EQ(*CopyPlace::parse("web:/a:b"), (CopyPlace{guest, "web", "/a:b"}));
}

TEST(CopyPlace, EverythingElseIsHere) {
    for (const auto* path : {"file", "/a/b:c", "./web:/x", "../a:b", "."})
        EXPECT_EQ(*CopyPlace::parse(path), (CopyPlace{host, std::nullopt, path}));
    EXPECT_EQ(CopyPlace::parse("-")->where, standard_stream);
}

TEST(CopyPlace, RefusesRelativePathsInVms) {
    EXPECT_FALSE(CopyPlace::parse("web:etc"));
    EXPECT_FALSE(CopyPlace::parse("web:"));
    EXPECT_FALSE(CopyPlace::parse(""));
}

TEST(CopyPlace, TakesPathsApartAndPutsThemTogether) {
    EXPECT_EQ(last_component("/a/b"), "b");
    EXPECT_EQ(last_component("/a/b//"), "b");
    EXPECT_EQ(last_component("b"), "b");
    EXPECT_EQ(last_component("/"), "");
    EXPECT_EQ(join_path("/a", "b"), "/a/b");
    EXPECT_EQ(join_path("/a/", "b"), "/a/b");
}

}  // namespace
}  // namespace noid::cli
