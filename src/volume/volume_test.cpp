#include "volume/volume.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <optional>

#include "base/file.hpp"
#include "base/temporary_directory.hpp"
#include "volume/testing/mounted_image.hpp"

namespace noid::volume {
namespace {

constexpr std::size_t mib = std::size_t{1} << 20;

using testing::FileSystem;
using testing::MountedImage;

class VolumeTest : public ::testing::TestWithParam<FileSystem> {
  protected:
    void SetUp() override {
        if (::geteuid() != 0) GTEST_SKIP() << "needs root to mount " << GetParam().name;
        auto mounted = MountedImage::create(temporary_->path(), GetParam());
        if (!mounted) GTEST_SKIP() << "cannot make and mount a " << GetParam().name << " image here";
        mounted_.emplace(std::move(*mounted));
        directory_ = std::move(*open_directory(mounted_->path()));
        auto volume = probe(directory_);
        ASSERT_TRUE(volume) << volume.error().what;
        volume_ = std::move(*volume);
    }

    Fd file(const std::string& name) { return std::move(*open_file_at(directory_, name, O_RDWR | O_CREAT)); }
    [[nodiscard]] Place at(std::string name) const { return {directory_, std::move(name)}; }
    [[nodiscard]] std::vector<std::string> names() const {
        std::vector<std::string> names;
        for (const auto& each : std::filesystem::directory_iterator{mounted_->path()})
            if (each.path().filename() != "lost+found") names.push_back(each.path().filename());
        std::sort(names.begin(), names.end());
        return names;
    }
    // 64 MiB long: 1 MiB of data at the beginning and in the middle.
    void make_image(const std::string& name) {
        const auto image = file(name);
        ASSERT_TRUE(write_all_at(image, std::string(mib, 'a'), 0));
        ASSERT_TRUE(write_all_at(image, std::string(mib, 'b'), 32 * mib));
        ASSERT_TRUE(grow(image, MiB{64}));
    }

    Result<TemporaryDirectory> temporary_ = TemporaryDirectory::create();
    std::optional<MountedImage> mounted_;
    Fd directory_;
    std::unique_ptr<Volume> volume_;
};

TEST_P(VolumeTest, IsProbedByTrying) {
    EXPECT_EQ(volume_->clones_are_free(), GetParam().shares);
    EXPECT_EQ(volume_->name(), GetParam().shares ? "reflink" : "copy");
    EXPECT_TRUE(names().empty());
}

TEST_P(VolumeTest, ClonesContentAndHoles) {
    make_image("a");
    ASSERT_TRUE(volume_->clone(at("a"), at("b")));
    const auto copy = file("b");
    struct stat status {};
    ASSERT_EQ(::fstat(copy.get(), &status), 0);
    EXPECT_EQ(status.st_size, static_cast<off_t>(64 * mib));
    EXPECT_EQ(*read_file_at(directory_, "a", 64 * mib), *read_file_at(directory_, "b", 64 * mib));
    const auto space = space_of(copy);
    ASSERT_TRUE(space) << space.error().what;
    EXPECT_GE(space->allocated, 2 * mib);
    EXPECT_LE(space->allocated, 3 * mib);
    EXPECT_EQ(names(), (std::vector<std::string>{"a", "b"}));
}

TEST_P(VolumeTest, ClonesKeepApart) {
    make_image("a");
    ASSERT_TRUE(volume_->clone(at("a"), at("b")));
    ASSERT_TRUE(write_all_at(file("a"), "changed", 0));
    ASSERT_TRUE(write_all_at(file("b"), "other", mib));
    EXPECT_EQ(read_file_at(directory_, "b", 64 * mib)->substr(0, 7), "aaaaaaa");
    EXPECT_EQ(read_file_at(directory_, "a", 64 * mib)->substr(mib, 5), std::string(5, '\0'));
}

TEST_P(VolumeTest, TellsSharedSpaceFromOwn) {
    make_image("a");
    ASSERT_TRUE(volume_->clone(at("a"), at("b")));
    constexpr std::size_t changed = 256 * 1024;
    ASSERT_TRUE(write_all_at(file("b"), std::string(changed, 'c'), 0));
    const auto space = space_of(file("b"));
    ASSERT_TRUE(space);
    EXPECT_GE(space->allocated, 2 * mib);
    if (GetParam().shares) {
        EXPECT_GE(space->exclusive, changed);
        EXPECT_LT(space->exclusive, mib);
    } else {
        EXPECT_EQ(space->exclusive, space->allocated);
    }
}

TEST_P(VolumeTest, NeverReplaces) {
    make_image("a");
    ASSERT_TRUE(write_all(file("b"), "mine"));
    EXPECT_EQ(volume_->clone(at("a"), at("b")).error().code, Errc::conflict);
    EXPECT_EQ(*read_file_at(directory_, "b", 100), "mine");
    EXPECT_EQ(volume_->clone(at("missing"), at("c")).error().code, Errc::not_found);
    EXPECT_EQ(names(), (std::vector<std::string>{"a", "b"}));
}

TEST_P(VolumeTest, TakesFilesFromOtherFileSystems) {
    const auto elsewhere = open_directory(temporary_->path());
    ASSERT_TRUE(replace_file_at(*elsewhere, "a", std::string(100'000, 'x')));
    const Place from{*elsewhere, "a"};
    ASSERT_TRUE(volume_->clone(from, at("b")));
    EXPECT_EQ(*read_file_at(directory_, "b", 200'000), std::string(100'000, 'x'));
}

TEST_P(VolumeTest, LeavesNothingWhenTheDiskIsFull) {
    const auto elsewhere = open_directory(temporary_->path());
    {
        const auto big = open_file_at(*elsewhere, "big", O_RDWR | O_CREAT);
        const std::string block(mib, 'x');
        for (std::size_t i = 0; i < GetParam().image_mib + 16; ++i) ASSERT_TRUE(write_all(*big, block));
    }
    const Place from{*elsewhere, "big"};
    EXPECT_EQ(volume_->clone(from, at("b")).error().code, Errc::no_space);
    EXPECT_TRUE(names().empty());
    make_image("a");
    EXPECT_TRUE(volume_->clone(at("a"), at("b"))) << "the space is free again";
}

TEST_P(VolumeTest, GrowsByAHole) {
    make_image("a");
    const auto image = file("a");
    const auto before = space_of(image)->allocated;
    ASSERT_TRUE(grow(image, MiB{4096}));
    EXPECT_EQ(space_of(image)->allocated, before);
    EXPECT_EQ(grow(image, MiB{64}).error().code, Errc::invalid);
}

INSTANTIATE_TEST_SUITE_P(FileSystems, VolumeTest,
                         ::testing::Values(FileSystem{"ext4", false, 128}, FileSystem{"btrfs", true, 256},
                                           FileSystem{"xfs", true, 384}),
                         [](const auto& each) { return std::string{each.param.name}; });

TEST(CopyingVolume, WorksInAnyDirectory) {
    const auto temporary = TemporaryDirectory::create();
    const auto directory = open_directory(temporary->path());
    ASSERT_TRUE(replace_file_at(*directory, "a", "content"));
    const Place from{*directory, "a"};
    const Place to{*directory, "b"};
    ASSERT_TRUE(copying_volume()->clone(from, to));
    EXPECT_EQ(*read_file_at(*directory, "b", 100), "content");
    ASSERT_TRUE(replace_file_at(*directory, "empty", ""));
    const Place empty{*directory, "empty"};
    const Place clone{*directory, "clone"};
    ASSERT_TRUE(copying_volume()->clone(empty, clone));
    EXPECT_EQ(*read_file_at(*directory, "clone", 100), "");
}

}  // namespace
}  // namespace noid::volume
