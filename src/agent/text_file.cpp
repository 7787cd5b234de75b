#include "agent/text_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "base/fd.hpp"

namespace noid::agent {

namespace {

Result<void> write_whole(int file, std::string_view text, const std::string& path) {
    while (!text.empty()) {
        const ssize_t size = ::write(file, text.data(), text.size());
        if (size < 0 && errno == EINTR) continue;
        if (size < 0) return fail_errno(errno, "write " + path);
        text.remove_prefix(static_cast<std::size_t>(size));
    }
    return {};
}

// Without truncating first: that would free the block which the text is about to need.
Result<void> write_in_place(const std::string& path, std::string_view text) {
    const Fd file{::open(path.c_str(), O_WRONLY | O_NOFOLLOW | O_CLOEXEC)};
    if (!file) return fail_errno(errno, "write " + path);
    if (auto written = write_whole(file.get(), text, path); !written) return written;
    if (::ftruncate(file.get(), static_cast<off_t>(text.size())) != 0)
        return fail_errno(errno, "write " + path);
    return {};
}

}  // namespace

Result<std::string> read_text_file(const std::string& path, std::size_t limit) {
    const Fd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    if (!file) return fail_errno(errno, "read " + path);
    // Most files are far smaller than their limit, whose pages should not be touched for them.
    constexpr std::size_t first_piece = 4096;
    std::string text;
    while (text.size() <= limit) {
        const std::size_t filled = text.size();
        text.resize(std::min(limit + 1, filled + std::max(filled, first_piece)));
        ssize_t size = -1;
        do size = ::read(file.get(), text.data() + filled, text.size() - filled);
        while (size < 0 && errno == EINTR);
        if (size < 0) return fail_errno(errno, "read " + path);
        text.resize(filled + static_cast<std::size_t>(size));
        if (size == 0) return text;
    }
    return fail(Errc::too_large, path + " is too large");
}

Result<void> replace_text_file(const std::string& path, std::string_view text) {
    struct stat status {};
    const bool is_file = ::lstat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
    if (is_file && static_cast<std::size_t>(status.st_size) == text.size()) {
        if (const auto current = read_text_file(path, text.size()); current && *current == text) return {};
    }

    constexpr off_t page = 4096;
    const bool is_small = status.st_size <= page && static_cast<off_t>(text.size()) <= page;
    if (is_file && is_small && status.st_nlink == 1) return write_in_place(path, text);

    const std::string fresh = path + ".noid-new";
    ::unlink(fresh.c_str());
    const Fd file{::open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644)};
    if (!file) return fail_errno(errno, "write " + path);
    auto written = write_whole(file.get(), text, path);
    if (written && ::fchmod(file.get(), is_file ? status.st_mode & 07777 : 0644) != 0) {
        written = fail_errno(errno, "write " + path);
    }
    if (written && is_file && ::fchown(file.get(), status.st_uid, status.st_gid) != 0) {
        written = fail_errno(errno, "write " + path);
    }
    if (written && ::rename(fresh.c_str(), path.c_str()) == 0) return {};
    const int reason = errno;
    ::unlink(fresh.c_str());
    if (!written) return written;
    if (reason == EBUSY) return write_in_place(path, text);  // somebody has mounted a file over it
    return fail_errno(reason, "write " + path);
}

Result<void> write_kernel_file(const std::string& path, std::string_view text) {
    const Fd file{::open(path.c_str(), O_WRONLY | O_CLOEXEC)};
    if (file && ::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size())) return {};
    return fail_errno(errno, "write " + path);
}

}  // namespace noid::agent
