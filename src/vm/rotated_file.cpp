#include "vm/rotated_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

namespace noid::vm {

namespace fs = std::filesystem;

namespace {

std::uint64_t size_of(const fs::path& path) {
    struct stat status {};
    return ::stat(path.c_str(), &status) == 0 ? static_cast<std::uint64_t>(status.st_size) : 0;
}

}  // namespace

RotatedFile::RotatedFile(fs::path path, std::uint64_t part_bytes)
    : path_{std::move(path)}, part_bytes_{part_bytes}, newer_begin_{size_of(older_path())} {
    end_ = newer_begin_ + size_of(path_);
}

fs::path RotatedFile::older_path() const {
    return path_.string() + ".1";
}

Result<void> RotatedFile::rotate() {
    file_.reset();
    if (::rename(path_.c_str(), older_path().c_str()) != 0 && errno != ENOENT) {
        return fail_errno(errno, "rotate " + path_.filename().string());
    }
    older_begin_ = newer_begin_;
    newer_begin_ = end_;
    return {};
}

Result<void> RotatedFile::append(std::string_view bytes) {
    const std::lock_guard lock{mutex_};
    while (!bytes.empty()) {
        if (end_ - newer_begin_ >= part_bytes_) {
            if (auto rotated = rotate(); !rotated) return rotated;
        }
        if (!file_) {
            file_.reset(::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600));
            if (!file_) return fail_errno(errno, "open " + path_.filename().string());
        }
        const std::size_t fits = std::min<std::uint64_t>(bytes.size(), part_bytes_ - (end_ - newer_begin_));
        const ssize_t written = ::write(file_.get(), bytes.data(), fits);
        if (written < 0) {
            if (errno == EINTR) continue;
            return fail_errno(errno, "write " + path_.filename().string());
        }
        end_ += static_cast<std::uint64_t>(written);
        bytes.remove_prefix(static_cast<std::size_t>(written));
    }
    return {};
}

std::uint64_t RotatedFile::end() const {
    return end_;
}

Result<RotatedFile::Piece> RotatedFile::read(std::uint64_t position, std::size_t at_most) const {
    const std::lock_guard lock{mutex_};
    const std::uint64_t end = end_;
    position = std::clamp(position, older_begin_, end);
    if (position == end) return Piece{position, {}};
    const bool newer = position >= newer_begin_;
    const std::uint64_t file_begin = newer ? newer_begin_ : older_begin_;
    const std::uint64_t file_end = newer ? end : newer_begin_;
    const fs::path path = newer ? path_ : older_path();
    const Fd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW)};
    if (!file) return fail_errno(errno, "open " + path.filename().string());
    std::string bytes(std::min<std::uint64_t>(at_most, file_end - position), '\0');
    const ssize_t got =
        ::pread(file.get(), bytes.data(), bytes.size(), static_cast<off_t>(position - file_begin));
    if (got < 0) return fail_errno(errno, "read " + path.filename().string());
    bytes.resize(static_cast<std::size_t>(got));
    return Piece{position, std::move(bytes)};
}

Result<void> RotatedFile::remove() {
    const std::lock_guard lock{mutex_};
    file_.reset();
    older_begin_ = end_;
    newer_begin_ = end_;
    for (const fs::path& path : {path_, older_path()}) {
        if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
            return fail_errno(errno, "remove " + path.filename().string());
        }
    }
    return {};
}

}  // namespace noid::vm
