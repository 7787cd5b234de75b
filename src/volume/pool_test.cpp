#include "volume/pool.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <optional>

#include "base/file.hpp"
#include "base/temporary_directory.hpp"
#include "volume/testing/mounted_image.hpp"

namespace noid::volume {
namespace {

namespace fs = std::filesystem;

constexpr MiB size{1024};

// Data directories on a host disk of ext4, which shares no blocks.
class PoolTest : public ::testing::Test {
  protected:
    void SetUp() override {
        if (::geteuid() != 0) GTEST_SKIP() << "needs root to mount";
        auto host = testing::MountedImage::create(temporary_->path(), {"ext4", false, 512});
        if (!host) GTEST_SKIP() << "cannot make and mount an ext4 image here";
        host_.emplace(std::move(*host));
        data_ = host_->path() / "data";
    }
    void TearDown() override { ::umount2((data_ / "pool").c_str(), MNT_DETACH); }

    void write(const std::string& name, const std::string& content) const {
        const auto directory = open_directory(*storage_root(data_));
        ASSERT_TRUE(replace_file_at(*directory, name, content));
    }
    [[nodiscard]] std::string read(const std::string& name) const {
        return *read_file(*storage_root(data_) / name, 1 << 20);
    }
    [[nodiscard]] Result<void> clone(const std::string& from, const std::string& to) const {
        const auto volume = probe_storage(data_, *storage_root(data_));
        if (!volume) return fail(volume.error());
        const auto directory = open_directory(*storage_root(data_));
        return (*volume)->clone({*directory, from}, {*directory, to});
    }

    Result<TemporaryDirectory> temporary_ = TemporaryDirectory::create();
    std::optional<testing::MountedImage> host_;
    fs::path data_;
};

TEST_F(PoolTest, LetsAHostThatSharesNoBlocksCloneForNothing) {
    const auto state = prepare_pool(data_, size);
    ASSERT_TRUE(state) << state.error().full();
    ASSERT_EQ(state->use, PoolState::Use::mounted) << state->reason;
    EXPECT_EQ(*storage_root(data_), data_ / "pool");
    EXPECT_TRUE((*probe_storage(data_, *storage_root(data_)))->clones_are_free());
    struct stat status {};
    ASSERT_EQ(::stat((data_ / "pool").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777U, 0700U);

    const auto usage = pool_usage(data_);
    ASSERT_TRUE(usage);
    EXPECT_TRUE(usage->mounted);
    EXPECT_EQ(usage->size, size);
    EXPECT_LT(usage->allocated, std::uint64_t{64} << 20) << "it takes what is in it, not its size";
}

TEST_F(PoolTest, IsFoundAgainMountedOrNot) {
    ASSERT_TRUE(prepare_pool(data_, size));
    write("vm", "kept");
    ASSERT_EQ(prepare_pool(data_, size)->reason, "found mounted");
    EXPECT_EQ(read("vm"), "kept");

    ASSERT_TRUE(unmount_pool(data_));
    EXPECT_EQ(storage_root(data_).error().code, Errc::unavailable) << "never an empty place instead";
    EXPECT_FALSE(pool_usage(data_)->mounted);
    EXPECT_TRUE(unmount_pool(data_)) << "it is already";
    ASSERT_EQ(prepare_pool(data_, size)->reason, "mounted");
    EXPECT_EQ(read("vm"), "kept");
}

TEST_F(PoolTest, GrowsAndNeverShrinks) {
    ASSERT_TRUE(prepare_pool(data_, size));
    const auto blocks = [this] {
        struct statvfs state {};
        EXPECT_EQ(::statvfs((data_ / "pool").c_str(), &state), 0);
        return static_cast<std::uint64_t>(state.f_blocks) * state.f_frsize;
    };
    ASSERT_EQ(blocks(), size.bytes());
    ASSERT_TRUE(prepare_pool(data_, MiB{2048}));
    EXPECT_EQ(blocks(), MiB{2048}.bytes());
    ASSERT_TRUE(prepare_pool(data_, size));
    EXPECT_EQ(blocks(), MiB{2048}.bytes());
}

TEST_F(PoolTest, IsNotUnmountedUnderWhoUsesIt) {
    ASSERT_TRUE(prepare_pool(data_, size));
    write("vm", "in use");
    {
        const auto open = open_file(data_ / "pool" / "vm", O_RDONLY);
        EXPECT_EQ(unmount_pool(data_).error().code, Errc::conflict);
    }
    const fs::path before = fs::current_path();
    fs::current_path(data_ / "pool");
    EXPECT_EQ(unmount_pool(data_).error().code, Errc::conflict) << "as a VM works in its directory";
    fs::current_path(before);
    EXPECT_TRUE(unmount_pool(data_));
}

TEST_F(PoolTest, GivesBackWhatIsRemoved) {
    ASSERT_TRUE(prepare_pool(data_, size));
    const std::uint64_t before = pool_usage(data_)->allocated;
    {
        const auto file = open_file(data_ / "pool" / "big", O_RDWR | O_CREAT);
        for (int i = 0; i < 64; ++i) ASSERT_TRUE(write_all(*file, std::string(1 << 20, 'x')));
        ASSERT_TRUE(sync_data(*file));
    }
    ASSERT_GT(pool_usage(data_)->allocated, before + (std::uint64_t{60} << 20));
    fs::remove(data_ / "pool" / "big");
    ASSERT_TRUE(unmount_pool(data_));
    EXPECT_LT(pool_usage(data_)->allocated, before + (std::uint64_t{32} << 20));
}

TEST_F(PoolTest, RefusesToCloneWhenTheDiskBelowIsNearlyFull) {
    ASSERT_TRUE(prepare_pool(data_, size));
    write("vm", "works");
    {
        const auto filler = open_file(host_->path() / "filler", O_RDWR | O_CREAT);
        const auto room = static_cast<off_t>(pool_usage(data_)->free_below);
        ASSERT_EQ(::posix_fallocate(filler->get(), 0, room - (off_t{40} << 20)), 0);
    }
    EXPECT_EQ(clone("vm", "other").error().code, Errc::no_space);
    EXPECT_FALSE(fs::exists(data_ / "pool" / "other"));
    EXPECT_EQ(read("vm"), "works");
    fs::remove(host_->path() / "filler");
    EXPECT_TRUE(clone("vm", "other"));
}

TEST_F(PoolTest, LeavesADataDirectoryAloneThatIsInUseWithoutOne) {
    fs::create_directories(data_ / "users" / "somebody");
    const auto state = prepare_pool(data_, size);
    ASSERT_TRUE(state);
    EXPECT_EQ(state->use, PoolState::Use::unavailable);
    EXPECT_EQ(*storage_root(data_), data_);
    EXPECT_EQ(unmount_pool(data_).error().code, Errc::not_found);
}

TEST_F(PoolTest, SaysWhyItCannotBeMade) {
    const auto state = prepare_pool(data_, MiB{1});
    ASSERT_TRUE(state);
    EXPECT_EQ(state->use, PoolState::Use::unavailable);
    EXPECT_NE(state->reason.find("mkfs.btrfs"), std::string::npos) << state->reason;
    EXPECT_TRUE(fs::is_empty(data_));
    EXPECT_FALSE((*probe_storage(data_, *storage_root(data_)))->clones_are_free());
}

TEST_F(PoolTest, DoesNotStartWithoutTheVmsThatAreInIt) {
    ASSERT_TRUE(prepare_pool(data_, size));
    ASSERT_TRUE(unmount_pool(data_));
    const auto image = open_file(data_ / "pool.btrfs", O_RDWR);
    ASSERT_TRUE(write_all_at(*image, std::string(1 << 20, '\0'), 0));
    const auto state = prepare_pool(data_, size);
    ASSERT_FALSE(state);
    EXPECT_NE(state.error().what.find("pool.btrfs"), std::string::npos);
}

TEST_F(PoolTest, IsNotNeededWhereBlocksAreShared) {
    const auto elsewhere = TemporaryDirectory::create();
    const auto btrfs = testing::MountedImage::create(elsewhere->path(), {"btrfs", true, 256});
    if (!btrfs) GTEST_SKIP() << "cannot make and mount a btrfs image here";
    const auto state = prepare_pool(btrfs->path() / "data", size);
    ASSERT_TRUE(state);
    EXPECT_EQ(state->use, PoolState::Use::unneeded);
    EXPECT_EQ(*storage_root(btrfs->path() / "data"), btrfs->path() / "data");
}

}  // namespace
}  // namespace noid::volume
