#include "vm/checkpoint_stream.hpp"

#include <gtest/gtest.h>
#include <zstd.h>

#include <fstream>
#include <iterator>

#include "base/temporary_directory.hpp"

namespace noid::vm {
namespace {

namespace fs = std::filesystem;

class CheckpointStreamTest : public ::testing::Test {
  protected:
    CheckpointStreamTest() {
        fs::create_directory(source());
        write(source() / disk_file, MiB{2}, "disk", 1'500'000);
        write(source() / memory_file, MiB{1}, "memory", 700'000);
        std::ofstream{source() / state_file} << "state";
        config_.id = "0123456789abcdef";
        config_.vm_id = config_.id;
        config_.vm_name = "web";
        config_.memory = MiB{1};
        config_.disk = MiB{2};
        config_.vmm = "qemu";
        config_.vmm_version = "1";
        EXPECT_TRUE(write_snapshot_config(source(), config_));
    }
    static void write(const fs::path& file, MiB size, const std::string& text, std::streamoff at) {
        std::ofstream out{file, std::ios::binary};
        out << text;
        out.seekp(at);
        out << text;
        out.close();
        fs::resize_file(file, size.bytes());
    }
    static std::string content(const fs::path& file) {
        std::ifstream in{file, std::ios::binary};
        return {std::istreambuf_iterator<char>{in}, {}};
    }
    [[nodiscard]] fs::path source() const { return directory_.path() / "source"; }

    std::string exported() {
        auto writer = CheckpointWriter::open(source());
        EXPECT_TRUE(writer);
        std::string stream;
        while (true) {
            auto piece = (*writer)->next();
            EXPECT_TRUE(piece);
            EXPECT_LE(piece->size(), 256u * 1024);
            if (piece->empty()) return stream;
            stream += *piece;
        }
    }
    // Into a fresh directory, in pieces of that size.
    Result<SnapshotConfig> imported(std::string_view stream, std::size_t piece = 100'000,
                                    StreamLimits limits = {MiB{64}, MiB{64}}) {
        target_ = directory_.path() / ("target" + std::to_string(++targets_));
        fs::create_directory(target_);
        auto reader = CheckpointReader::create(target_, limits);
        EXPECT_TRUE(reader);
        while (!stream.empty()) {
            if (auto done = (*reader)->write(stream.substr(0, piece)); !done) return fail(done.error());
            stream.remove_prefix(std::min(piece, stream.size()));
        }
        return (*reader)->finish();
    }
    // A stream of these records, well compressed.
    static std::string stream_of(const std::string& records) {
        std::string out(ZSTD_compressBound(records.size()), '\0');
        out.resize(ZSTD_compress(out.data(), out.size(), records.data(), records.size(), 1));
        return std::string{"NOIDCP\0\1", 8} + out;
    }
    [[nodiscard]] std::string config_record() const {
        const std::string json = config_.to_json();
        return "C" + number(json.size(), 4) + json;
    }
    static std::string number(std::uint64_t value, int bytes) {
        std::string text;
        for (int i = 0; i < bytes; ++i) text.push_back(static_cast<char>(value >> (8 * i)));
        return text;
    }
    static std::string file_record(const std::string& name, std::uint64_t size) {
        return "F" + number(name.size(), 1) + name + number(size, 8);
    }

    TemporaryDirectory directory_ = TemporaryDirectory::create().value();
    SnapshotConfig config_;
    fs::path target_;
    int targets_ = 0;
};

TEST_F(CheckpointStreamTest, WhatGoesOutComesIn) {
    const std::string stream = exported();
    EXPECT_LT(stream.size(), 10'000u) << "holes are not sent";
    for (const std::size_t piece : {std::size_t{1}, std::size_t{7}, stream.size()}) {
        auto config = imported(stream, piece);
        ASSERT_TRUE(config) << config.error().full();
        EXPECT_EQ(config->to_json(), config_.to_json());
        for (const char* name : {disk_file, memory_file, state_file})
            EXPECT_EQ(content(target_ / name), content(source() / name)) << name;
        EXPECT_EQ(content_hash(target_ / disk_file).value(), content_hash(source() / disk_file).value());
    }
}

TEST_F(CheckpointStreamTest, WhatIsDamagedDoesNotGoOut) {
    for (const char* name : {disk_file, memory_file, state_file})
        config_.sha256[name] = content_hash(source() / name).value();
    ASSERT_TRUE(write_snapshot_config(source(), config_));
    EXPECT_TRUE(imported(exported()));
    std::fstream{source() / memory_file, std::ios::in | std::ios::out} << "Memory";
    auto writer = CheckpointWriter::open(source());
    ASSERT_TRUE(writer);
    Result<std::string> piece = "begun";
    while (piece && !piece->empty()) piece = (*writer)->next();
    ASSERT_FALSE(piece);
    EXPECT_EQ(piece.error().code, Errc::corrupt);
    EXPECT_EQ(piece.error().what, "the checkpoint's memory.snap is damaged: its hash is wrong");
}

TEST(ContentHash, SaysWhatAFileHoldsWhereverItIsCut) {
    ContentHash hash;
    const std::string bytes(5000, 'x');
    hash.add(0, bytes);
    hash.add(12288, "end");
    const std::string whole = hash.take(20000);
    hash.add(0, bytes.substr(0, 1000));
    hash.add(1000, bytes.substr(1000));
    hash.add(8192, std::string(4096, '\0'));
    hash.add(12288, std::string("end\0\0", 5));
    EXPECT_EQ(hash.take(20000), whole);
    hash.add(0, bytes);
    hash.add(12289, "end");
    EXPECT_NE(hash.take(20000), whole);
    hash.add(0, bytes);
    hash.add(12288, "end");
    EXPECT_NE(hash.take(20001), whole);
}

TEST_F(CheckpointStreamTest, AnEndThatIsMissingIsNoticed) {
    const std::string stream = exported();
    for (std::size_t size = 0; size < stream.size(); size += 13) {
        auto config = imported(std::string_view{stream}.substr(0, size));
        ASSERT_FALSE(config) << size;
        EXPECT_EQ(config.error().code, Errc::corrupt) << size;
    }
    EXPECT_FALSE(imported(stream + "x"));
    EXPECT_FALSE(imported(stream + stream));
}

TEST_F(CheckpointStreamTest, ADamagedByteIsNoticed) {
    const std::string stream = exported();
    for (std::size_t at = 0; at < stream.size(); at += 11) {
        std::string damaged = stream;
        damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
        auto config = imported(damaged);
        if (!config) continue;
        // A bit may differ that says nothing: zstd has more than one way to write the same bytes.
        EXPECT_EQ(config->to_json(), config_.to_json()) << at;
        for (const char* name : {disk_file, memory_file, state_file})
            EXPECT_EQ(content(target_ / name), content(source() / name)) << name << " at " << at;
    }
}

TEST_F(CheckpointStreamTest, TheLimitsHold) {
    const std::string stream = exported();
    EXPECT_EQ(imported(stream, 1000, {MiB{1}, MiB{1}}).error().code, Errc::limit_exceeded);
    EXPECT_TRUE(fs::is_empty(target_));
    EXPECT_EQ(imported(stream, 1000, {MiB{0}, MiB{2}}).error().code, Errc::limit_exceeded);
}

TEST_F(CheckpointStreamTest, RecordsOutOfPlaceAreRefused) {
    const std::string begin = config_record();
    const std::string disk = file_record(disk_file, MiB{2}.bytes());
    const auto data = [](std::uint64_t offset, const std::string& bytes) {
        return "D" + number(offset, 8) + number(bytes.size(), 4) + bytes;
    };
    for (const std::string& records : {
             std::string{"?"},
             std::string{"Z"},
             begin + begin,
             begin + "Z",
             disk,
             begin + file_record("../../etc/passwd", 5),
             begin + file_record(memory_file, MiB{1}.bytes()),
             begin + file_record(disk_file, 5),
             begin + file_record(disk_file, MiB{3}.bytes()),
             begin + data(0, "x"),
             begin + disk + disk,
             begin + disk + data(MiB{2}.bytes(), "x"),
             begin + disk + data(MiB{2}.bytes() - 1, "xy"),
             begin + disk + data(~std::uint64_t{0}, "x"),
             begin + disk + data(0, ""),
             begin + disk + data(0, std::string(262145, 'x')),
             begin + disk + data(10, "x") + data(10, "x"),
             begin + disk + data(0, "x") + "E" + std::string(32, 'h'),
             begin + "E" + std::string(32, 'h'),
             "C" + number(~0u, 4),
         }) {
        auto config = imported(stream_of(records));
        ASSERT_FALSE(config);
        EXPECT_EQ(config.error().code, Errc::corrupt) << config.error().full();
    }
    EXPECT_FALSE(imported(""));
    EXPECT_FALSE(imported("NOIDCP"));
    EXPECT_FALSE(imported("something else entirely"));
}

}  // namespace
}  // namespace noid::vm
