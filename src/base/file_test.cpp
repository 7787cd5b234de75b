#include "base/file.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "base/temporary_directory.hpp"

namespace noid {
namespace {

class FileTest : public testing::Test {
  protected:
    [[nodiscard]] std::size_t entries() const {
        return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator{path()}, {}));
    }
    [[nodiscard]] const std::filesystem::path& path() const { return temporary_->path(); }

    Result<TemporaryDirectory> temporary_ = TemporaryDirectory::create();
    Fd directory_ = std::move(*open_directory(path()));
};

TEST_F(FileTest, ReplacesAsAWhole) {
    ASSERT_TRUE(replace_file_at(directory_, "a", "first"));
    const auto old = open_file_at(directory_, "a", O_RDONLY);
    ASSERT_TRUE(replace_file_at(directory_, "a", "second", 0640));
    EXPECT_EQ(*read_file_at(directory_, "a", 100), "second");
    std::string held(5, '\0');
    EXPECT_EQ(::pread(old->get(), held.data(), held.size(), 0), 5);
    EXPECT_EQ(held, "first") << "a reader keeps the file that it opened";
    EXPECT_EQ(entries(), 1U);
}

TEST_F(FileTest, LeavesNothingBehindWhenItCannotReplace) {
    ASSERT_TRUE(std::filesystem::create_directory(path() / "taken"));
    EXPECT_FALSE(replace_file_at(directory_, "taken", "x"));
    EXPECT_EQ(entries(), 1U);
}

TEST_F(FileTest, ReportsAFullDisk) {
    const auto full = open_file("/dev/full", O_WRONLY);
    ASSERT_TRUE(full);
    EXPECT_EQ(write_all(*full, "x").error().code, Errc::no_space);
    EXPECT_EQ(write_all_at(*full, "x", 10).error().code, Errc::no_space);
}

TEST_F(FileTest, ReadsUpToTheLimit) {
    ASSERT_TRUE(replace_file_at(directory_, "a", std::string(200'000, 'x')));
    EXPECT_EQ(read_file_at(directory_, "a", 200'000)->size(), 200'000U);
    EXPECT_EQ(read_file_at(directory_, "a", 199'999).error().code, Errc::too_large);
    EXPECT_EQ(read_file_at(directory_, "b", 1).error().code, Errc::not_found);
    EXPECT_THAT(*read_file("/proc/self/status", 100'000), testing::HasSubstr("Name:"));
}

TEST_F(FileTest, WritesAtAnOffset) {
    const auto file = open_file_at(directory_, "a", O_RDWR | O_CREAT);
    ASSERT_TRUE(write_all_at(*file, "end", 10));
    ASSERT_TRUE(write_all(*file, "begin"));
    EXPECT_EQ(*read_file_at(directory_, "a", 100), (std::string{"begin"} + std::string(5, '\0') + "end"));
    EXPECT_TRUE(sync_data(*file));
    EXPECT_TRUE(sync_directory(directory_));
}

TEST_F(FileTest, IsCloseOnExec) {
    const auto file = open_file("/dev/null", O_RDONLY);
    EXPECT_TRUE(::fcntl(file->get(), F_GETFD) & FD_CLOEXEC);
    EXPECT_TRUE(::fcntl(directory_.get(), F_GETFD) & FD_CLOEXEC);
}

TEST(TemporaryDirectory, GoesWithItsContent) {
    std::filesystem::path path;
    {
        const auto directory = TemporaryDirectory::create();
        ASSERT_TRUE(directory);
        path = directory->path();
        std::filesystem::create_directories(path / "a/b");
    }
    EXPECT_FALSE(std::filesystem::exists(path));
    EXPECT_EQ(TemporaryDirectory::create("/nowhere").error().code, Errc::not_found);
}

}  // namespace
}  // namespace noid
