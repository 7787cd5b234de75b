#include "base/file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "base/random.hpp"

namespace noid {

namespace {

Result<std::string> read_to_end(const Fd& file, const std::string& name, std::size_t limit) {
    std::string content;
    constexpr std::size_t step = 64 * 1024;
    while (true) {
        const std::size_t have = content.size();
        // One byte more than allowed tells "exactly at the limit" from "too long".
        content.resize(have + std::min(step, limit + 1 - have));
        const ssize_t got = ::read(file.get(), content.data() + have, content.size() - have);
        if (got < 0) {
            if (errno != EINTR) return fail_errno(errno, "cannot read " + name);
            content.resize(have);
            continue;
        }
        content.resize(have + static_cast<std::size_t>(got));
        if (got == 0) return content;
        if (content.size() > limit)
            return fail(Errc::too_large, name + " is longer than " + std::to_string(limit) + " bytes");
    }
}

}  // namespace

Result<Fd> open_file(const std::filesystem::path& path, int flags, mode_t mode) {
    Fd file{::open(path.c_str(), flags | O_CLOEXEC, mode)};
    if (!file) return fail_errno(errno, "cannot open " + path.string());
    return file;
}

Result<Fd> open_file_at(const Fd& directory, const std::string& name, int flags, mode_t mode) {
    Fd file{::openat(directory.get(), name.c_str(), flags | O_CLOEXEC, mode)};
    if (!file) return fail_errno(errno, "cannot open " + name);
    return file;
}

Result<Fd> open_directory(const std::filesystem::path& path) {
    return open_file(path, O_RDONLY | O_DIRECTORY);
}

Result<std::string> read_file(const std::filesystem::path& path, std::size_t limit) {
    auto file = open_file(path, O_RDONLY);
    if (!file) return fail(std::move(file.error()));
    return read_to_end(*file, path.string(), limit);
}

Result<std::string> read_file_at(const Fd& directory, const std::string& name, std::size_t limit) {
    auto file = open_file_at(directory, name, O_RDONLY);
    if (!file) return fail(std::move(file.error()));
    return read_to_end(*file, name, limit);
}

Result<void> write_all(const Fd& file, std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t put = ::write(file.get(), bytes.data(), bytes.size());
        if (put < 0) {
            if (errno == EINTR) continue;
            return fail_errno(errno, "cannot write");
        }
        bytes.remove_prefix(static_cast<std::size_t>(put));
    }
    return {};
}

Result<void> write_all_at(const Fd& file, std::string_view bytes, off_t offset) {
    while (!bytes.empty()) {
        const ssize_t put = ::pwrite(file.get(), bytes.data(), bytes.size(), offset);
        if (put < 0) {
            if (errno == EINTR) continue;
            return fail_errno(errno, "cannot write");
        }
        bytes.remove_prefix(static_cast<std::size_t>(put));
        offset += put;
    }
    return {};
}

Result<void> sync_data(const Fd& file) {
    if (::fdatasync(file.get()) != 0) return fail_errno(errno, "cannot sync file");
    return {};
}

Result<void> sync_directory(const Fd& directory) {
    if (::fsync(directory.get()) != 0) return fail_errno(errno, "cannot sync directory");
    return {};
}

Result<void> replace_file_at(const Fd& directory, const std::string& name, std::string_view content,
                             mode_t mode) {
    const std::string temporary = name + ".tmp-" + random_hex(8);
    auto file = open_file_at(directory, temporary, O_WRONLY | O_CREAT | O_EXCL, mode);
    if (!file) return fail(std::move(file.error()));
    auto done = write_all(*file, content);
    if (done) done = sync_data(*file);
    if (done && ::renameat(directory.get(), temporary.c_str(), directory.get(), name.c_str()) != 0)
        done = fail_errno(errno, "cannot rename");
    if (!done) {
        ::unlinkat(directory.get(), temporary.c_str(), 0);
        return fail(std::move(done.error()).at("write " + name));
    }
    return sync_directory(directory);
}

}  // namespace noid
