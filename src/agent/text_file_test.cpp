#include "agent/text_file.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace noid::agent {
namespace {

namespace fs = std::filesystem;

class TextFile : public testing::Test {
  protected:
    void SetUp() override {
        std::string pattern = fs::temp_directory_path() / "noid-text-file-XXXXXX";
        ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
        directory_ = pattern;
    }
    void TearDown() override { fs::remove_all(directory_); }

    [[nodiscard]] std::string path(const char* name) const { return directory_ / name; }
    void put(const std::string& path, std::string_view text) { std::ofstream{path} << text; }

    fs::path directory_;
};

TEST_F(TextFile, ReadsUpToItsLimit) {
    put(path("a"), "12345");
    EXPECT_EQ(read_text_file(path("a"), 5).value(), "12345");
    EXPECT_EQ(read_text_file(path("a"), 4).error().code, Errc::too_large);
    EXPECT_EQ(read_text_file(path("b"), 4).error().code, Errc::not_found);
}

TEST_F(TextFile, CreatesAndReplaces) {
    ASSERT_TRUE(replace_text_file(path("a"), "one\n"));
    ASSERT_TRUE(replace_text_file(path("a"), "two\n"));
    EXPECT_EQ(read_text_file(path("a"), 100).value(), "two\n");
    EXPECT_EQ(std::distance(fs::directory_iterator{directory_}, {}), 1);
}

TEST_F(TextFile, WritesASmallFileInPlaceToItsNewLength) {
    put(path("a"), "a long line\n");
    struct stat before {};
    struct stat after {};
    ASSERT_EQ(::stat(path("a").c_str(), &before), 0);
    for (const char* text : {"short\n", "a much longer line\n", ""}) {
        ASSERT_TRUE(replace_text_file(path("a"), text));
        EXPECT_EQ(read_text_file(path("a"), 100).value(), text);
    }
    ASSERT_EQ(::stat(path("a").c_str(), &after), 0);
    EXPECT_EQ(before.st_ino, after.st_ino);
}

TEST_F(TextFile, ReplacesWhatIsLargeOrHasAnotherName) {
    const std::string large(5000, 'x');
    put(path("large"), large);
    ASSERT_TRUE(replace_text_file(path("large"), "small"));
    EXPECT_EQ(read_text_file(path("large"), 5000).value(), "small");

    put(path("a"), "both");
    fs::create_hard_link(path("a"), path("b"));
    ASSERT_TRUE(replace_text_file(path("a"), "one"));
    EXPECT_EQ(read_text_file(path("a"), 100).value(), "one");
    EXPECT_EQ(read_text_file(path("b"), 100).value(), "both");
}

TEST_F(TextFile, KeepsTheMode) {
    put(path("a"), "old");
    ASSERT_EQ(::chmod(path("a").c_str(), 0600), 0);
    ASSERT_TRUE(replace_text_file(path("a"), "new"));
    struct stat status {};
    ASSERT_EQ(::stat(path("a").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0600U);
}

TEST_F(TextFile, LeavesAFileAloneThatIsRightAlready) {
    put(path("a"), "same");
    struct stat before {};
    struct stat after {};
    ASSERT_EQ(::stat(path("a").c_str(), &before), 0);
    ASSERT_TRUE(replace_text_file(path("a"), "same"));
    ASSERT_EQ(::stat(path("a").c_str(), &after), 0);
    EXPECT_EQ(before.st_ino, after.st_ino);
}

TEST_F(TextFile, ReplacesALinkAndNotItsTarget) {
    put(path("target"), "target");
    fs::create_symlink(path("target"), path("link"));
    fs::create_symlink("/nowhere/at/all", path("dangling"));
    ASSERT_TRUE(replace_text_file(path("link"), "new"));
    ASSERT_TRUE(replace_text_file(path("dangling"), "new"));
    EXPECT_EQ(read_text_file(path("target"), 100).value(), "target");
    EXPECT_TRUE(fs::is_regular_file(fs::symlink_status(path("link"))));
    EXPECT_EQ(read_text_file(path("dangling"), 100).value(), "new");
}

TEST_F(TextFile, LeavesNothingBehindWhenItFails) {
    const auto failed = replace_text_file(path("missing/a"), "text");
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().code, Errc::not_found);
    EXPECT_TRUE(fs::is_empty(directory_));
}

}  // namespace
}  // namespace noid::agent
