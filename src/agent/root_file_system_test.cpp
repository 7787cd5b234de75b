#include "agent/root_file_system.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

namespace noid::agent {
namespace {

class Disk {
  public:
    explicit Disk(std::size_t size) : bytes_(size) {}

    void put(std::size_t at, std::string_view text) {
        std::memcpy(bytes_.data() + at, text.data(), text.size());
    }
    void put_number(std::size_t at, std::uint32_t value) {
        for (int i = 0; i < 4; ++i) bytes_[at + i] = static_cast<std::byte>(value >> (8 * i));
    }
    // An ext4 superblock as `mke2fs -O 64bit` writes it, as far as it is looked at.
    void put_ext4(std::uint64_t blocks, std::uint32_t log_block_size) {
        put_number(1024 + 0x4, static_cast<std::uint32_t>(blocks));
        put_number(1024 + 0x18, log_block_size);
        put_number(1024 + 0x38, 0xEF53);
        put_number(1024 + 0x60, 0x80);
        put_number(1024 + 0x150, static_cast<std::uint32_t>(blocks >> 32));
    }
    [[nodiscard]] auto identified() const {
        return identify_file_system([this](std::uint64_t offset, std::span<std::byte> out) {
            if (offset + out.size() > bytes_.size()) return false;
            std::copy_n(bytes_.begin() + static_cast<std::ptrdiff_t>(offset), out.size(), out.begin());
            return true;
        });
    }

  private:
    std::vector<std::byte> bytes_;
};

TEST(RootFileSystem, FindsExt4AndItsSize) {
    Disk disk{128 * 1024};
    disk.put_ext4(0x1'2345'6789, 2);
    const auto found = disk.identified();
    ASSERT_TRUE(found);
    EXPECT_EQ(found->type, "ext4");
    EXPECT_EQ(found->blocks, 0x1'2345'6789U);
    EXPECT_EQ(found->block_size, 4096U);
}

TEST(RootFileSystem, IgnoresTheUpperHalfOfTheSizeWithoutTheFeatureForIt) {
    Disk disk{128 * 1024};
    disk.put_ext4(0x1'0000'1000, 0);
    disk.put_number(1024 + 0x60, 0);
    ASSERT_TRUE(disk.identified());
    EXPECT_EQ(disk.identified()->blocks, 0x1000U);
    EXPECT_EQ(disk.identified()->block_size, 1024U);
}

TEST(RootFileSystem, RefusesAnImpossibleBlockSize) {
    Disk disk{128 * 1024};
    disk.put_ext4(4096, 40);
    EXPECT_FALSE(disk.identified());
}

TEST(RootFileSystem, FindsXfsAndBtrfs) {
    Disk xfs{128 * 1024};
    xfs.put(0, "XFSB");
    ASSERT_TRUE(xfs.identified());
    EXPECT_EQ(xfs.identified()->type, "xfs");
    EXPECT_EQ(xfs.identified()->block_size, 0U);

    Disk btrfs{128 * 1024};
    btrfs.put(64 * 1024 + 0x40, "_BHRfS_M");
    ASSERT_TRUE(btrfs.identified());
    EXPECT_EQ(btrfs.identified()->type, "btrfs");
}

TEST(RootFileSystem, FindsNothingOnAnEmptyOrTinyDisk) {
    EXPECT_FALSE(Disk{128 * 1024}.identified());
    EXPECT_FALSE(Disk{512}.identified());
}

}  // namespace
}  // namespace noid::agent
