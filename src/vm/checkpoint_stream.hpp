#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "base/fd.hpp"
#include "vm/sha256.hpp"
#include "vm/snapshot.hpp"

// A snapshot as one stream of bytes; docs/checkpoint-stream.md has the format. Blocking: use on a pool.
namespace noid::vm {

// Reads a snapshot into a stream. The snapshot may be removed meanwhile. corrupt, where a file ends, when it
// is not what its hash says, if it has one.
class CheckpointWriter {
  public:
    [[nodiscard]] static Result<std::unique_ptr<CheckpointWriter>> open(
        const std::filesystem::path& snapshot);
    ~CheckpointWriter();

    // The next bytes of the stream, about 256 KiB; empty at the end.
    [[nodiscard]] Result<std::string> next();

  private:
    class Compressor;
    struct File {
        std::string name;
        Fd fd;
        std::uint64_t size = 0;
        std::string hash;  // as config.json has it; empty: it was not taken yet
    };
    CheckpointWriter(SnapshotConfig config, std::vector<File> files);
    Result<void> step();
    Result<void> read_on();

    std::vector<File> files_;
    std::size_t at_ = 0;  // file
    bool file_begun_ = false;
    std::uint64_t offset_ = 0;    // in the file: what is before it has been dealt with
    std::uint64_t data_end_ = 0;  // of the run of data that offset_ is in
    bool finished_ = false;
    std::string out_;
    std::unique_ptr<Compressor> compressor_;
    Sha256 digest_;
    ContentHash content_;
};

// What a stream may contain at most.
struct StreamLimits {
    MiB memory;
    MiB disk;
};

// Takes a stream in, from an untrusted sender, and puts the snapshot's files into a directory.
class CheckpointReader {
  public:
    // `directory`: empty.
    [[nodiscard]] static Result<std::unique_ptr<CheckpointReader>> create(
        const std::filesystem::path& directory, StreamLimits limits);
    ~CheckpointReader();

    // corrupt when these bytes cannot belong to such a stream; limit_exceeded, no_space.
    [[nodiscard]] Result<void> write(std::string_view bytes);
    // What the stream says of itself, once that has come; nullptr before.
    [[nodiscard]] const SnapshotConfig* description() const noexcept { return config_ ? &*config_ : nullptr; }
    // Bytes that were put into files so far.
    [[nodiscard]] std::uint64_t bytes_put() const noexcept { return bytes_put_; }
    // corrupt unless the stream is complete and every file is what its hash says.
    [[nodiscard]] Result<SnapshotConfig> finish();

  private:
    class Decompressor;
    CheckpointReader(Fd directory, StreamLimits limits);
    Result<void> take(std::string_view bytes);
    Result<bool> take_record();
    Result<void> begin_snapshot(std::string_view json);
    Result<void> begin_file(std::string_view name, std::uint64_t size);
    Result<void> put(std::uint64_t offset, std::string_view bytes);
    Result<void> end_file(std::string_view hash);

    Fd directory_;
    StreamLimits limits_;
    std::string magic_;
    std::string pending_;  // plain bytes that are not yet a whole record
    std::optional<SnapshotConfig> config_;
    std::vector<std::pair<std::string, std::uint64_t>> expected_;  // files to come, with their largest size
    std::size_t at_ = 0;
    Fd file_;
    std::uint64_t file_size_ = 0;
    std::uint64_t next_offset_ = 0;
    std::uint64_t bytes_put_ = 0;
    bool ended_ = false;
    std::unique_ptr<Decompressor> decompressor_;
    Sha256 digest_;
};

}  // namespace noid::vm
