#include "qemu/guest_memory.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include "base/file.hpp"
#include "base/temporary_directory.hpp"
#include "vmm/userfaultfd.hpp"

namespace noid::qemu {
namespace {

constexpr std::size_t page = 4096;
constexpr std::size_t mib = std::size_t{1} << 20;

// How it is found out which pages to look at.
enum class Search : std::uint8_t { page_map, userfaultfd };

// Memory of this process in the place of a guest's.
GuestMemory::Files own_files(Search search) {
    return {.memory = std::move(*open_file("/proc/self/mem", O_RDONLY)),
            .pagemap = std::move(*open_file("/proc/self/pagemap", O_RDONLY)),
            .maps = std::move(*open_file("/proc/self/maps", O_RDONLY)),
            .userfaultfd = search == Search::userfaultfd ? Fd{vmm::make_userfaultfd()} : Fd{}};
}

class Memory {
  public:
    Memory(std::size_t size, const Fd* file) : size_{size} {
        const int flags = file != nullptr ? MAP_PRIVATE : MAP_PRIVATE | MAP_ANONYMOUS;
        void* mapped =
            ::mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, file != nullptr ? file->get() : -1, 0);
        if (mapped != MAP_FAILED) bytes_ = static_cast<char*>(mapped);
        ::madvise(bytes_, size, MADV_NOHUGEPAGE);
    }
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;
    ~Memory() { ::munmap(bytes_, size_); }

    void fill(std::size_t first_page, std::size_t pages, char c) {
        std::fill_n(bytes_ + first_page * page, pages * page, c);
    }
    void read_from(const Fd& file, std::size_t first_page, std::size_t pages) {
        EXPECT_EQ(::read(file.get(), bytes_ + first_page * page, pages * page),
                  static_cast<ssize_t>(pages * page));
    }
    [[nodiscard]] std::string content() const { return {bytes_, size_}; }
    [[nodiscard]] GuestMemory as_guest(Search search, GuestMemory::Past past) const {
        return std::move(*GuestMemory::open(own_files(search), reinterpret_cast<std::uint64_t>(bytes_),
                                            MiB{size_ / mib}, past));
    }

  private:
    std::size_t size_;
    char* bytes_ = nullptr;
};

// Of files, memory of processes included: rchar in Documentation/filesystems/proc.rst.
std::uint64_t bytes_read_by_us() {
    const auto counters = *read_file("/proc/self/io", 1000);
    return std::stoull(counters.substr(std::string_view{"rchar: "}.size()));
}

class GuestMemoryTest : public testing::TestWithParam<Search> {
  protected:
    void SetUp() override {
        if (GetParam() == Search::userfaultfd && !Fd{vmm::make_userfaultfd()})
            GTEST_SKIP() << "this kernel does not tell what is written";
        directory_ = std::move(*open_directory(temporary_->path()));
    }
    Fd file(const std::string& name) { return std::move(*open_file_at(directory_, name, O_RDWR | O_CREAT)); }
    [[nodiscard]] std::string content(const std::string& name) const {
        return std::move(*read_file_at(directory_, name, 64 * mib));
    }
    void copy(const std::string& from, const std::string& to) {
        ASSERT_TRUE(write_all(file(to), content(from)));
    }
    // Says no more than that they differ: they are large.
    [[nodiscard]] bool holds(const std::string& name, const Memory& memory) const {
        return content(name) == memory.content();
    }

    Result<TemporaryDirectory> temporary_ = TemporaryDirectory::create();
    Fd directory_;
};

TEST_P(GuestMemoryTest, OfABootedGuestIsWrittenWithHoles) {
    Memory memory{4 * mib, nullptr};
    memory.fill(3, 2, 'a');
    memory.fill(1023, 1, 'b');
    memory.fill(100, 5, '\0');  // its own, but zero
    auto guest = memory.as_guest(GetParam(), GuestMemory::Past::none);
    EXPECT_EQ(*guest.write_all_to(file("full")), 3 * page);
    EXPECT_TRUE(holds("full", memory));
    struct stat status {};
    ASSERT_EQ(::fstat(file("full").get(), &status), 0);
    EXPECT_LE(status.st_blocks * 512, static_cast<long>(16 * page));
}

TEST_P(GuestMemoryTest, ChangesAreCountedFromTheLastSave) {
    Memory memory{24 * mib, nullptr};
    memory.fill(0, 4096, 'a');  // enough for two threads
    auto guest = memory.as_guest(GetParam(), GuestMemory::Past::none);
    EXPECT_EQ(*guest.write_all_to(file("0")), 4096 * page);

    copy("0", "1");
    memory.fill(7, 1, 'b');
    memory.fill(5000, 2, 'c');  // written for the first time
    memory.fill(20, 1, 'a');    // written, but as it was
    EXPECT_EQ(*guest.write_changes_to(file("1")), 3 * page);
    EXPECT_TRUE(holds("1", memory));

    copy("1", "2");
    memory.fill(7, 1, 'a');
    memory.fill(5000, 1, '\0');
    EXPECT_EQ(*guest.write_changes_to(file("2")), 2 * page);
    EXPECT_TRUE(holds("2", memory));
    copy("2", "3");
    EXPECT_EQ(*guest.write_changes_to(file("3")), 0U);
}

// A guest stands still for it: where the kernel tells what was written since, not for all that ever was.
TEST_P(GuestMemoryTest, OnlyWhatMayHaveChangedIsReadAgain) {
    Memory memory{32 * mib, nullptr};
    memory.fill(0, 8192, 'a');
    auto guest = memory.as_guest(GetParam(), GuestMemory::Past::none);
    ASSERT_TRUE(guest.write_all_to(file("0")));
    copy("0", "1");
    memory.fill(7, 1, 'b');
    const auto before = bytes_read_by_us();
    EXPECT_EQ(*guest.write_changes_to(file("1")), page);
    EXPECT_LT(bytes_read_by_us() - before, GetParam() == Search::userfaultfd ? mib : 33 * mib);
}

TEST_P(GuestMemoryTest, OfAWokenGuestIsItsOwnPagesOverTheSnapshot) {
    {
        Memory before{4 * mib, nullptr};
        before.fill(0, 1024, 's');
        auto guest = before.as_guest(GetParam(), GuestMemory::Past::none);
        ASSERT_TRUE(guest.write_all_to(file("snapshot")));
    }
    const auto snapshot = file("snapshot");
    Memory memory{4 * mib, &snapshot};
    auto guest = memory.as_guest(GetParam(), GuestMemory::Past::none);
    EXPECT_TRUE(*guest.lies_over(snapshot));
    copy("snapshot", "clone");
    EXPECT_FALSE(*guest.lies_over(file("clone")));
    memory.fill(17, 3, 'n');
    EXPECT_EQ(*guest.write_changes_to(file("clone")), 3 * page);
    EXPECT_TRUE(holds("clone", memory));
    // Without a basis, all of it is written.
    EXPECT_EQ(*guest.write_all_to(file("full")), 4 * mib);
    EXPECT_TRUE(holds("full", memory));
    EXPECT_TRUE(content("snapshot") == std::string(4 * mib, 's'));
}

TEST_P(GuestMemoryTest, WithAnUnknownPastIsComparedWithTheFile) {
    Memory memory{4 * mib, nullptr};
    memory.fill(0, 1024, 'a');
    ASSERT_TRUE(memory.as_guest(GetParam(), GuestMemory::Past::none).write_all_to(file("0")));
    memory.fill(9, 2, 'b');
    auto guest = memory.as_guest(GetParam(), GuestMemory::Past::unknown);
    EXPECT_EQ(*guest.write_changes_to(file("0")), 2 * page);
    EXPECT_TRUE(holds("0", memory));
    memory.fill(1, 1, 'c');
    EXPECT_EQ(*guest.write_changes_to(file("0")), page);
    EXPECT_TRUE(holds("0", memory));
}

TEST_P(GuestMemoryTest, AfterAFailedSaveIsComparedWithTheFile) {
    Memory memory{4 * mib, nullptr};
    memory.fill(0, 1024, 'a');
    auto guest = memory.as_guest(GetParam(), GuestMemory::Past::none);
    ASSERT_TRUE(guest.write_all_to(file("0")));
    memory.fill(0, 1024, 'b');
    EXPECT_FALSE(guest.write_changes_to(*open_file_at(directory_, "0", O_RDONLY)));
    EXPECT_EQ(*guest.write_changes_to(file("0")), 1024 * page);
    EXPECT_TRUE(holds("0", memory));
}

TEST_P(GuestMemoryTest, IsNotWrittenOverAFileOfAnotherSize) {
    Memory memory{4 * mib, nullptr};
    ASSERT_TRUE(replace_file_at(directory_, "short", "x"));
    auto guest = memory.as_guest(GetParam(), GuestMemory::Past::none);
    EXPECT_EQ(guest.write_changes_to(file("short")).error().code, Errc::corrupt);
}

// What a guest that is saved while it runs changes behind the copy's back.
TEST_P(GuestMemoryTest, IsWrittenAheadAndMadeWholeLater) {
    Memory memory{16 * mib, nullptr};
    memory.fill(0, 3000, 'a');
    auto guest = memory.as_guest(GetParam(), GuestMemory::Past::none);
    EXPECT_EQ(*guest.write_all_to(file("ahead"), GuestMemory::Guest::running), 3000 * page);
    memory.fill(10, 2, 'b');
    memory.fill(20, 1, '\0');
    memory.fill(3500, 1, 'c');
    EXPECT_EQ(*guest.write_changes_to(file("ahead")), 4 * page);
    EXPECT_TRUE(holds("ahead", memory));

    copy("ahead", "next");
    memory.fill(100, 50, 'd');
    EXPECT_EQ(*guest.write_changes_to(file("next"), GuestMemory::Guest::running), 50 * page);
    memory.fill(149, 2, 'e');
    EXPECT_EQ(*guest.write_changes_to(file("next")), 2 * page);
    EXPECT_TRUE(holds("next", memory));
}

// As QEMU does when the guest reads its disk.
TEST_P(GuestMemoryTest, WhatTheKernelReadsIntoItIsNoticed) {
    Memory memory{16 * mib, nullptr};
    memory.fill(0, 2000, 'a');
    auto guest = memory.as_guest(GetParam(), GuestMemory::Past::none);
    ASSERT_TRUE(guest.write_all_to(file("0")));
    const auto zero = std::move(*open_file("/dev/zero", O_RDONLY));
    memory.read_from(zero, 60, 2);
    EXPECT_EQ(*guest.write_changes_to(file("0")), 2 * page);
    EXPECT_TRUE(holds("0", memory));
}

// One whose server has ended is followed by the next one's.
TEST_P(GuestMemoryTest, IsFollowedByOneAfterTheOther) {
    Memory memory{4 * mib, nullptr};
    memory.fill(0, 500, 'a');
    {
        auto first = memory.as_guest(GetParam(), GuestMemory::Past::none);
        ASSERT_TRUE(first.write_all_to(file("0")));
    }
    memory.fill(3, 1, 'b');
    auto guest = memory.as_guest(GetParam(), GuestMemory::Past::unknown);
    EXPECT_EQ(*guest.write_changes_to(file("0")), page);
    memory.fill(4, 1, 'b');
    EXPECT_EQ(*guest.write_changes_to(file("0")), page);
    EXPECT_TRUE(holds("0", memory));
}

INSTANTIATE_TEST_SUITE_P(Searches, GuestMemoryTest, testing::Values(Search::page_map, Search::userfaultfd),
                         [](const auto& test) {
                             return test.param == Search::page_map ? "PageMap" : "Userfaultfd";
                         });

}  // namespace
}  // namespace noid::qemu
