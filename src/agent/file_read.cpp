#include "agent/file_read.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

namespace noid::agent {

using proto::OutputStream;

namespace {

constexpr std::size_t read_size = 128 * 1024;
constexpr int reads_per_turn = 4;

proto::FileStat stat_from(const struct stat& info) {
    using Kind = proto::FileStat::Kind;
    return {.kind = S_ISREG(info.st_mode)   ? Kind::file
                    : S_ISDIR(info.st_mode) ? Kind::directory
                                            : Kind::other,
            .size = static_cast<std::uint64_t>(info.st_size),
            .mode = info.st_mode & 07777,
            .modified = info.st_mtime};
}

}  // namespace

FileRead::FileRead(Context& context, proto::GuestSession& session, proto::FileRead request)
    : session_{session}, request_{std::move(request)}, more_{context.loop, [this] { pump(); }} {}

void FileRead::start() {
    const std::string& path = request_.path;
    if (!path.starts_with('/'))
        return end_failed(session_, {Errc::invalid, "'" + path + "' is not absolute"});
    // Not blocking: opening a FIFO would wait for its writer.
    file_.reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    struct stat info {};
    if (!file_ || ::fstat(file_.get(), &info) != 0)
        return end_failed(session_, fail_errno(errno, path).error());
    session_.opened({.pid = 0, .file = stat_from(info)});
    if (!S_ISREG(info.st_mode)) {
        return end_failed(
            session_, {Errc::invalid, "'" + path + "' is " +
                                          (S_ISDIR(info.st_mode) ? "a directory" : "not a regular file")});
    }
    if (::lseek(file_.get(), static_cast<off_t>(request_.offset), SEEK_SET) < 0)
        return end_failed(session_, fail_errno(errno, path).error());
    session_.end_output(OutputStream::err);
    pump();
}

void FileRead::pump() {
    for (int reads = 0; file_ && reads < reads_per_turn; ++reads) {
        const auto space = session_.output_space(OutputStream::out, read_size);
        if (space.empty()) return;
        const ssize_t got = ::read(file_.get(), space.data(), space.size());
        if (got > 0) {
            session_.output_written(OutputStream::out, static_cast<std::size_t>(got));
            continue;
        }
        const int reason = errno;
        file_.reset();
        if (got < 0) return end_failed(session_, fail_errno(reason, request_.path).error());
        return session_.end({});
    }
    if (file_) more_.set(std::chrono::milliseconds{0});
}

}  // namespace noid::agent
