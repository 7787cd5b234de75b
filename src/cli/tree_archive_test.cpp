#include "cli/tree_archive.hpp"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <thread>

#include "base/file.hpp"
#include "base/temporary_directory.hpp"

namespace noid::cli {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::EndsWith;
using testing::IsEmpty;
using testing::SizeIs;

void put(const fs::path& path, std::string_view text) {
    std::ofstream{path, std::ios::binary} << text;
}
std::string get(const fs::path& path) {
    std::ostringstream text;
    text << std::ifstream{path, std::ios::binary}.rdbuf();
    return text.str();
}

std::string pack(const fs::path& directory, std::vector<std::string>* skipped = nullptr) {
    auto packer = TreePacker::open(directory);
    EXPECT_TRUE(packer);
    std::string out;
    std::array<char, 1000> piece;
    for (;;) {
        const auto count = packer->read(piece);
        EXPECT_TRUE(count) << count.error().what;
        if (!count || *count == 0) break;
        out.append(piece.data(), *count);
    }
    if (skipped) *skipped = packer->skipped();
    return out;
}

// As the client does: the archive through a pipe, the unpacking on a thread of its own.
Result<Unpacked> unpack(std::string_view archive, const fs::path& directory,
                        RootEntry root = RootEntry::ignored) {
    int ends[2];
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    Result<Unpacked> result;
    std::thread unpacking{[&] { result = unpack_tree(Fd{ends[0]}, directory, root); }};
    {
        const Fd to{ends[1]};
        [[maybe_unused]] const auto written = write_all(to, archive);  // EPIPE where it failed early
    }
    unpacking.join();
    return result;
}

// One entry of an archive that some hostile guest made.
struct Forged {
    std::string path;
    mode_t type = AE_IFREG;
    std::string link;  // symbolic for AE_IFLNK, else hard
    std::string text;
    mode_t mode = 0644;
};

std::string forge(const std::vector<Forged>& entries) {
    std::string out;
    archive* tar = archive_write_new();
    archive_write_set_format_pax_restricted(tar);
    archive_write_set_bytes_per_block(tar, 0);
    const auto take = [](archive*, void* to, const void* bytes, std::size_t count) {
        static_cast<std::string*>(to)->append(static_cast<const char*>(bytes), count);
        return static_cast<la_ssize_t>(count);
    };
    archive_write_open(tar, &out, nullptr, take, nullptr);
    for (const auto& each : entries) {
        archive_entry* entry = archive_entry_new();
        archive_entry_set_pathname(entry, each.path.c_str());
        archive_entry_set_filetype(entry, each.type);
        archive_entry_set_perm(entry, each.mode);
        archive_entry_set_size(entry, static_cast<la_int64_t>(each.text.size()));
        if (!each.link.empty() && each.type == AE_IFLNK) archive_entry_set_symlink(entry, each.link.c_str());
        if (!each.link.empty() && each.type != AE_IFLNK) archive_entry_set_hardlink(entry, each.link.c_str());
        archive_write_header(tar, entry);
        archive_write_data(tar, each.text.data(), each.text.size());
        archive_entry_free(entry);
    }
    archive_write_close(tar);
    archive_write_free(tar);
    return out;
}

class TreeArchive : public testing::Test {
  protected:
    void SetUp() override {
        ::signal(SIGPIPE, SIG_IGN);
        fs::create_directory(from_);
        fs::create_directory(to_);
    }

    TemporaryDirectory directory_ = *TemporaryDirectory::create();
    fs::path from_ = directory_.path() / "from";
    fs::path to_ = directory_.path() / "to";
};

TEST_F(TreeArchive, CarriesFilesDirectoriesAndLinksWithTheirModes) {
    const std::string large(300'000, 'x');
    fs::create_directories(from_ / "a/b");
    put(from_ / "a/b/large", large);
    put(from_ / "empty", "");
    put(from_ / "tool", "#!/bin/sh\n");
    fs::permissions(from_ / "tool", fs::perms{0755});
    fs::create_symlink("a/b/large", from_ / "link");
    fs::create_symlink("/nowhere", from_ / "dangling");
    fs::create_hard_link(from_ / "tool", from_ / "same");
    put(from_ / (std::string(120, 'n') + "ü"), "long name");

    const auto unpacked = unpack(pack(from_), to_);
    ASSERT_TRUE(unpacked) << unpacked.error().what;
    EXPECT_EQ(get(to_ / "a/b/large"), large);
    EXPECT_EQ(fs::file_size(to_ / "empty"), 0U);
    EXPECT_EQ(fs::status(to_ / "tool").permissions(), fs::perms{0755});
    EXPECT_EQ(fs::read_symlink(to_ / "link"), "a/b/large");
    EXPECT_EQ(fs::read_symlink(to_ / "dangling"), "/nowhere");
    EXPECT_TRUE(fs::equivalent(to_ / "tool", to_ / "same"));
    EXPECT_EQ(get(to_ / (std::string(120, 'n') + "ü")), "long name");
}

TEST_F(TreeArchive, HolesArriveAsZeros) {
    const Fd file{::open((from_ / "sparse").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644)};
    ASSERT_EQ(::ftruncate(file.get(), 1 << 20), 0);
    ASSERT_EQ(::pwrite(file.get(), "end", 3, (1 << 20) - 3), 3);
    ASSERT_TRUE(unpack(pack(from_), to_));
    EXPECT_EQ(get(to_ / "sparse"), std::string((1 << 20) - 3, '\0') + "end");
}

TEST_F(TreeArchive, LeavesOutWhatIsNoFileAndSaysSo) {
    ASSERT_EQ(::mkfifo((from_ / "pipe").c_str(), 0600), 0);
    put(from_ / "file", "x");
    std::vector<std::string> skipped;
    const auto unpacked = unpack(pack(from_, &skipped), to_);
    ASSERT_TRUE(unpacked);
    EXPECT_THAT(skipped, ElementsAre(EndsWith("/pipe")));
    EXPECT_FALSE(fs::exists(to_ / "pipe"));
    EXPECT_TRUE(fs::exists(to_ / "file"));
}

TEST_F(TreeArchive, TheRootsModeIsAppliedOnlyWhenAsked) {
    fs::permissions(from_, fs::perms{0700});
    fs::permissions(to_, fs::perms{0755});
    const auto archive = pack(from_);
    ASSERT_TRUE(unpack(archive, to_, RootEntry::ignored));
    EXPECT_EQ(fs::status(to_).permissions(), fs::perms{0755});
    ASSERT_TRUE(unpack(archive, to_, RootEntry::applied));
    EXPECT_EQ(fs::status(to_).permissions(), fs::perms{0700});
}

TEST_F(TreeArchive, ReplacesFilesThatAreThere) {
    put(from_ / "file", "new");
    put(to_ / "file", "old and longer");
    ASSERT_TRUE(unpack(pack(from_), to_));
    EXPECT_EQ(get(to_ / "file"), "new");
}

TEST_F(TreeArchive, WorkingDirectoryOfTheProcessStays) {
    const auto before = fs::current_path();
    ASSERT_TRUE(unpack(pack(from_), to_));
    EXPECT_EQ(fs::current_path(), before);
}

TEST_F(TreeArchive, AMissingDirectoryIsAnError) {
    auto packer = TreePacker::open(from_ / "missing");
    std::array<char, 10> piece;
    EXPECT_TRUE(!packer || !packer->read(piece));
}

TEST_F(TreeArchive, AHostileArchiveStaysInsideTheDirectory) {
    const auto outside = directory_.path() / "outside";
    const std::vector<std::vector<Forged>> attacks{
        {{.path = "../outside", .text = "x"}},
        {{.path = "a/../../outside", .text = "x"}},
        {{.path = outside.string(), .text = "x"}},
        {{.path = "up", .type = AE_IFLNK, .link = ".."}, {.path = "up/outside", .text = "x"}},
        {{.path = "up", .type = AE_IFLNK, .link = directory_.path().string()},
         {.path = "up/outside", .text = "x"}},
    };
    for (const auto& attack : attacks) {
        const auto unpacked = unpack(forge(attack), to_);
        EXPECT_FALSE(unpacked) << attack.front().path;
        EXPECT_FALSE(fs::exists(outside)) << attack.front().path;
    }
}

TEST_F(TreeArchive, AHardLinkCannotReachOutside) {
    const auto secret = directory_.path() / "secret";
    put(secret, "secret");
    for (const auto& target : {secret.string(), std::string{"../secret"}}) {
        const auto unpacked = unpack(forge({{.path = "mine", .link = target}}), to_);
        EXPECT_FALSE(unpacked) << target;
        EXPECT_FALSE(fs::exists(to_ / "mine")) << target;
    }
}

TEST_F(TreeArchive, DevicesAndSetUserIdBitsAreNotMade) {
    const auto unpacked =
        unpack(forge({{.path = "disk", .type = AE_IFBLK}, {.path = "su", .text = "x", .mode = 06755}}), to_);
    ASSERT_TRUE(unpacked);
    EXPECT_THAT(unpacked->skipped, ElementsAre("disk"));
    EXPECT_EQ(fs::status(to_ / "su").permissions(), fs::perms{0755});
}

TEST_F(TreeArchive, DamageIsAnErrorWhereverItIs) {
    put(from_ / "file", std::string(5000, 'x'));
    const auto archive = pack(from_);
    EXPECT_FALSE(unpack(std::string_view{archive}.substr(0, 700), to_));
    EXPECT_FALSE(unpack("", to_));
    EXPECT_FALSE(unpack(std::string(4096, 'j'), to_));
}

}  // namespace
}  // namespace noid::cli
