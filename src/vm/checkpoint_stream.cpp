#include "vm/checkpoint_stream.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/file.hpp"

namespace noid::vm {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view magic{"NOIDCP\0\1", 8};
constexpr std::size_t chunk_bytes = 256 * 1024;  // of a data record, at most
constexpr std::size_t largest_config = 8 << 20;
constexpr std::uint64_t largest_state = 64 << 20;  // of vmstate.snap
constexpr int window_log = 23;                     // 8 MiB: what a reader has to hold at most
constexpr std::size_t hash_bytes = 32;

enum class Record : char { config = 'C', file = 'F', data = 'D', end_of_file = 'E', end = 'Z' };

void put_number(std::string& out, std::uint64_t value, std::size_t bytes) {
    for (std::size_t i = 0; i < bytes; ++i) out.push_back(static_cast<char>(value >> (8 * i)));
}

std::uint64_t number_in(std::string_view bytes) {
    std::uint64_t value = 0;
    for (std::size_t i = bytes.size(); i > 0; --i)
        value = value << 8 | static_cast<unsigned char>(bytes[i - 1]);
    return value;
}

std::string data_header(std::uint64_t offset, std::size_t size) {
    std::string header(1, static_cast<char>(Record::data));
    put_number(header, offset, 8);
    put_number(header, size, 4);
    return header;
}

std::unexpected<Error> no_such_stream(std::string_view what) {
    return fail(Errc::corrupt, fmt::format("this is no exported checkpoint: {}", what));
}

}  // namespace

// --- writing -----------------------------------------------------------------------------------------

class CheckpointWriter::Compressor {
  public:
    Compressor() : context_{ZSTD_createCCtx()} {
        ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_checksumFlag, 1);
        ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_windowLog, window_log - 2);
    }
    Result<void> add(std::string_view bytes, ZSTD_EndDirective directive, std::string& out) {
        ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
        while (true) {
            std::string piece(ZSTD_CStreamOutSize(), '\0');
            ZSTD_outBuffer to{piece.data(), piece.size(), 0};
            const std::size_t left = ZSTD_compressStream2(context_.get(), &to, &in, directive);
            if (ZSTD_isError(left)) return fail(Errc::internal, "cannot compress");
            out.append(piece, 0, to.pos);
            const bool done = directive == ZSTD_e_end ? left == 0 : in.pos == in.size;
            if (done) return {};
        }
    }

  private:
    struct Free {
        void operator()(ZSTD_CCtx* context) const noexcept { ZSTD_freeCCtx(context); }
    };
    std::unique_ptr<ZSTD_CCtx, Free> context_;
};

Result<std::unique_ptr<CheckpointWriter>> CheckpointWriter::open(const fs::path& snapshot) {
    auto config = read_snapshot(snapshot);
    if (!config) return fail(std::move(config.error()));
    const auto directory = open_directory(snapshot);
    if (!directory) return fail(directory.error());
    std::vector<File> files;
    for (const char* name : config->files()) {
        auto file = open_file_at(*directory, name, O_RDONLY);
        if (!file) return fail(std::move(file.error()));
        struct stat status {};
        if (::fstat(file->get(), &status) != 0) return fail_errno(errno, "look at the checkpoint");
        const auto hash = config->sha256.find(name);
        files.push_back({name, std::move(*file), static_cast<std::uint64_t>(status.st_size),
                         hash == config->sha256.end() ? std::string{} : hash->second});
    }
    return std::unique_ptr<CheckpointWriter>{new CheckpointWriter{std::move(*config), std::move(files)}};
}

CheckpointWriter::CheckpointWriter(SnapshotConfig config, std::vector<File> files)
    : files_{std::move(files)}, out_{magic}, compressor_{std::make_unique<Compressor>()} {
    const std::string json = config.to_json();
    std::string record(1, static_cast<char>(Record::config));
    put_number(record, json.size(), 4);
    record += json;
    // Into memory: nothing that could fail.
    (void)compressor_->add(record, ZSTD_e_continue, out_);
}

CheckpointWriter::~CheckpointWriter() = default;

Result<std::string> CheckpointWriter::next() {
    while (!finished_ && out_.size() < chunk_bytes) {
        if (auto done = step(); !done) return fail(std::move(done.error()));
    }
    const std::size_t size = std::min(out_.size(), chunk_bytes);
    std::string piece = out_.substr(0, size);
    out_.erase(0, size);
    return piece;
}

Result<void> CheckpointWriter::step() {
    if (at_ == files_.size()) {
        finished_ = true;
        return compressor_->add(std::string(1, static_cast<char>(Record::end)), ZSTD_e_end, out_);
    }
    const File& file = files_[at_];
    if (!file_begun_) {
        file_begun_ = true;
        offset_ = data_end_ = 0;
        std::string record(1, static_cast<char>(Record::file));
        put_number(record, file.name.size(), 1);
        record += file.name;
        put_number(record, file.size, 8);
        return compressor_->add(record, ZSTD_e_continue, out_);
    }
    if (offset_ == data_end_ && offset_ < file.size) {
        const off_t begin = ::lseek(file.fd.get(), static_cast<off_t>(offset_), SEEK_DATA);
        if (begin < 0 && errno != ENXIO) return fail_errno(errno, "look for data");
        offset_ = begin < 0 ? file.size : static_cast<std::uint64_t>(begin);
        const off_t end = begin < 0 ? -1 : ::lseek(file.fd.get(), begin, SEEK_HOLE);
        data_end_ = end < 0 ? file.size : std::min(static_cast<std::uint64_t>(end), file.size);
    }
    if (offset_ < data_end_) return read_on();
    const std::string hash = content_.take(file.size);
    if (!file.hash.empty() && file.hash != hash)
        return fail(Errc::corrupt,
                    fmt::format("the checkpoint's {} is damaged: its hash is wrong", file.name));
    ++at_;
    file_begun_ = false;
    return compressor_->add(static_cast<char>(Record::end_of_file) + digest_.take(), ZSTD_e_continue, out_);
}

Result<void> CheckpointWriter::read_on() {
    std::string bytes(std::min<std::uint64_t>(chunk_bytes, data_end_ - offset_), '\0');
    const ssize_t got =
        ::pread(files_[at_].fd.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset_));
    if (got < 0) return fail_errno(errno, "read the checkpoint");
    if (got == 0) return fail(Errc::corrupt, "the checkpoint's file became shorter");
    bytes.resize(static_cast<std::size_t>(got));
    const std::string header = data_header(offset_, bytes.size());
    digest_.add(header);
    digest_.add(bytes);
    content_.add(offset_, bytes);
    offset_ += bytes.size();
    if (auto added = compressor_->add(header, ZSTD_e_continue, out_); !added) return added;
    return compressor_->add(bytes, ZSTD_e_continue, out_);
}

// --- reading -----------------------------------------------------------------------------------------

class CheckpointReader::Decompressor {
  public:
    Decompressor() : context_{ZSTD_createDCtx()} {
        ZSTD_DCtx_setParameter(context_.get(), ZSTD_d_windowLogMax, window_log);
    }
    // The next plain bytes; empty when more input is needed.
    Result<std::string> next(std::string_view& bytes) {
        std::string out(chunk_bytes, '\0');
        ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
        ZSTD_outBuffer to{out.data(), out.size(), 0};
        const std::size_t left = ZSTD_decompressStream(context_.get(), &to, &in);
        if (ZSTD_isError(left)) return no_such_stream("its compression is damaged");
        complete_ = left == 0;
        bytes.remove_prefix(in.pos);
        out.resize(to.pos);
        return out;
    }
    [[nodiscard]] bool complete() const noexcept { return complete_; }

  private:
    struct Free {
        void operator()(ZSTD_DCtx* context) const noexcept { ZSTD_freeDCtx(context); }
    };
    std::unique_ptr<ZSTD_DCtx, Free> context_;
    bool complete_ = false;
};

Result<std::unique_ptr<CheckpointReader>> CheckpointReader::create(const fs::path& directory,
                                                                   StreamLimits limits) {
    auto opened = open_directory(directory);
    if (!opened) return fail(std::move(opened.error()));
    return std::unique_ptr<CheckpointReader>{new CheckpointReader{std::move(*opened), limits}};
}

CheckpointReader::CheckpointReader(Fd directory, StreamLimits limits)
    : directory_{std::move(directory)}, limits_{limits}, decompressor_{std::make_unique<Decompressor>()} {}

CheckpointReader::~CheckpointReader() = default;

Result<void> CheckpointReader::write(std::string_view bytes) {
    if (magic_.size() < magic.size()) {
        const std::size_t wanted = std::min(bytes.size(), magic.size() - magic_.size());
        magic_ += bytes.substr(0, wanted);
        bytes.remove_prefix(wanted);
        if (!magic.starts_with(magic_)) return no_such_stream("it begins otherwise");
    }
    while (!bytes.empty()) {
        if (ended_ && decompressor_->complete()) return no_such_stream("something follows its end");
        const std::size_t before = bytes.size();
        auto plain = decompressor_->next(bytes);
        if (!plain) return fail(std::move(plain.error()));
        if (auto taken = take(*plain); !taken) return taken;
        // Output that did not fit comes with the next call, also when the input is used up.
        while (bytes.empty() && plain->size() == chunk_bytes) {
            plain = decompressor_->next(bytes);
            if (!plain) return fail(std::move(plain.error()));
            if (auto taken = take(*plain); !taken) return taken;
        }
        if (bytes.size() == before && plain->empty()) return no_such_stream("its compression is damaged");
    }
    return {};
}

Result<void> CheckpointReader::take(std::string_view bytes) {
    pending_ += bytes;
    while (true) {
        auto more = take_record();
        if (!more) return fail(std::move(more.error()));
        if (!*more) return {};
    }
}

// Takes one record out of what is pending; false when it is not there as a whole.
Result<bool> CheckpointReader::take_record() {
    if (pending_.empty()) return false;
    if (ended_) return no_such_stream("something follows its end");
    const std::string_view all = pending_;
    std::size_t size = 0;
    Result<void> done;
    switch (static_cast<Record>(all[0])) {
        case Record::config: {
            if (all.size() < 5) return false;
            const std::uint64_t length = number_in(all.substr(1, 4));
            if (length > largest_config) return no_such_stream("its description is too long");
            size = 5 + length;
            if (all.size() < size) return false;
            done = begin_snapshot(all.substr(5, length));
            break;
        }
        case Record::file: {
            if (all.size() < 2) return false;
            const std::size_t length = static_cast<unsigned char>(all[1]);
            size = 2 + length + 8;
            if (all.size() < size) return false;
            done = begin_file(all.substr(2, length), number_in(all.substr(2 + length, 8)));
            break;
        }
        case Record::data: {
            if (all.size() < 13) return false;
            const std::uint64_t length = number_in(all.substr(9, 4));
            if (length == 0 || length > chunk_bytes) return no_such_stream("a piece has an impossible size");
            size = 13 + length;
            if (all.size() < size) return false;
            done = put(number_in(all.substr(1, 8)), all.substr(13, length));
            break;
        }
        case Record::end_of_file:
            size = 1 + hash_bytes;
            if (all.size() < size) return false;
            done = end_file(all.substr(1, hash_bytes));
            break;
        case Record::end:
            size = 1;
            if (!config_ || at_ != expected_.size()) return no_such_stream("a file is missing");
            ended_ = true;
            break;
        default:
            return no_such_stream("it holds an unknown record");
    }
    if (!done) return fail(std::move(done.error()));
    pending_.erase(0, size);
    return true;
}

Result<void> CheckpointReader::begin_snapshot(std::string_view json) {
    if (config_) return no_such_stream("it has two descriptions");
    auto config = SnapshotConfig::from_json(json);
    if (!config) return fail(std::move(config.error()));
    if (config->memory > limits_.memory || config->disk > limits_.disk) {
        return fail(
            Errc::limit_exceeded,
            fmt::format("the checkpoint has {} MiB of memory and {} MiB of disk; at most {} and {} are "
                        "allowed",
                        config->memory.count, config->disk.count, limits_.memory.count, limits_.disk.count));
    }
    expected_.emplace_back(disk_file, config->disk.bytes());
    if (config->has_memory) {
        expected_.emplace_back(memory_file, config->memory.bytes());
        expected_.emplace_back(state_file, largest_state);
    }
    config_ = std::move(*config);
    return {};
}

Result<void> CheckpointReader::begin_file(std::string_view name, std::uint64_t size) {
    if (file_ || at_ == expected_.size() || expected_[at_].first != name)
        return no_such_stream("a file is in the wrong place");
    const bool fits = name == state_file ? size <= expected_[at_].second : size == expected_[at_].second;
    if (size == 0 || !fits) return no_such_stream("a file has the wrong size");
    auto file = open_file_at(directory_, std::string{name}, O_WRONLY | O_CREAT | O_EXCL);
    if (!file) return fail(std::move(file.error()));
    if (::ftruncate(file->get(), static_cast<off_t>(size)) != 0) return fail_errno(errno, "size the file");
    file_ = std::move(*file);
    file_size_ = size;
    next_offset_ = 0;
    return {};
}

Result<void> CheckpointReader::put(std::uint64_t offset, std::string_view bytes) {
    if (!file_) return no_such_stream("bytes belong to no file");
    // In order and never twice, so that what is written is bounded by the file's size.
    if (offset < next_offset_ || offset > file_size_ || bytes.size() > file_size_ - offset)
        return no_such_stream("bytes are out of place");
    next_offset_ = offset + bytes.size();
    bytes_put_ += bytes.size();
    digest_.add(data_header(offset, bytes.size()));
    digest_.add(bytes);
    return write_all_at(file_, bytes, static_cast<off_t>(offset));
}

Result<void> CheckpointReader::end_file(std::string_view hash) {
    if (!file_) return no_such_stream("a file ends that did not begin");
    if (digest_.take() != hash)
        return fail(Errc::corrupt, fmt::format("{} is damaged: its hash is wrong", expected_[at_].first));
    file_.reset();
    ++at_;
    return {};
}

Result<SnapshotConfig> CheckpointReader::finish() {
    if (!ended_ || !decompressor_->complete()) return no_such_stream("its end is missing");
    return *config_;
}

}  // namespace noid::vm
