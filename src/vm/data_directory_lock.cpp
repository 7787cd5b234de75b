#include "vm/data_directory_lock.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>

#include "base/log.hpp"
#include "base/process_identity.hpp"
#include "vm/data_directory.hpp"

extern "C" {  // glibc 2.36 declares these without C linkage
#include <sys/pidfd.h>
}

namespace noid::vm {

namespace fs = std::filesystem;

namespace {

constexpr int end_limit_ms = 5000;  // for a process that was killed to be gone

// The pid that the lock's holder wrote; 0: none.
long holder_of(const Fd& lock) {
    std::array<char, 32> text{};
    const ssize_t size = ::pread(lock.get(), text.data(), text.size(), 0);
    long pid = 0;
    if (size <= 0 || std::from_chars(text.data(), text.data() + size, pid).ec != std::errc{}) return 0;
    return pid;
}

std::unexpected<Error> in_use(const fs::path& directory, long pid) {
    const std::string holder = pid > 0 ? fmt::format("noid-server with pid {}", pid) : "another process";
    return fail(Errc::conflict, fmt::format("{} is in use by {}", directory.string(), holder));
}

bool has_open(const std::string& pid, const struct stat& file) {
    const fs::path descriptors = fs::path{"/proc"} / pid / "fd";
    const auto numbers = names_in(descriptors);
    if (!numbers) return false;  // gone, or not ours to look at
    for (const std::string& number : *numbers) {
        struct stat status {};
        if (::stat((descriptors / number).c_str(), &status) == 0 && status.st_dev == file.st_dev &&
            status.st_ino == file.st_ino)
            return true;
    }
    return false;
}

Result<void> end_now(const ProcessIdentity& process) {
    const auto pidfd = open_process(process);
    if (!pidfd) return {};
    ::pidfd_send_signal(pidfd->get(), SIGKILL, nullptr, 0);
    pollfd end{pidfd->get(), POLLIN, 0};
    if (::poll(&end, 1, end_limit_ms) == 1) return {};
    return fail(Errc::timed_out, fmt::format("process {} does not end", process.pid));
}

// Children that a killed server had made and that had not executed their VMM yet: nobody knows of them, so
// they must not become one later.
Result<void> end_children_of_the_dead(const Fd& lock) {
    struct stat file {};
    if (::fstat(lock.get(), &file) != 0) return fail_errno(errno, "look at the lock");
    const auto entries = names_in("/proc");
    if (!entries) return fail(entries.error());
    for (const std::string& entry : *entries) {
        pid_t pid = 0;
        const auto [end, error] = std::from_chars(entry.data(), entry.data() + entry.size(), pid);
        if (error != std::errc{} || end != entry.data() + entry.size() || pid == ::getpid()) continue;
        // Identity first: a pid that changes hands in between is then not found under it.
        const auto identity = identify(pid);
        if (!identity || !has_open(entry, file)) continue;
        log::warn("process that a server left behind is ended", {{"pid", entry}});
        if (auto ended = end_now(*identity); !ended) return ended;
    }
    return {};
}

}  // namespace

// Two locks on one file. The record lock is the process's own: it ends when the process does, whatever it
// has forked. But it keeps nobody of the same process out; flock(2) does. That one is inherited by children,
// so who finds it taken, and the record lock not, has met a server's children without their server.
Result<Fd> lock_data_directory(const fs::path& directory) {
    const fs::path file = directory / "lock";
    Fd lock{::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)};
    if (!lock) return fail_errno(errno, fmt::format("open {}", file.string()));
    struct flock whole {};
    whole.l_type = F_WRLCK;
    whole.l_whence = SEEK_SET;
    if (::fcntl(lock.get(), F_SETLK, &whole) != 0) {
        if (errno != EAGAIN && errno != EACCES)
            return fail_errno(errno, fmt::format("lock {}", file.string()));
        return in_use(directory, holder_of(lock));
    }
    if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK) return fail_errno(errno, fmt::format("lock {}", file.string()));
        const long pid = holder_of(lock);
        if (pid == ::getpid()) return in_use(directory, pid);
        if (auto ended = end_children_of_the_dead(lock); !ended) return fail(std::move(ended.error()));
        if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) return in_use(directory, pid);
    }
    const std::string pid = fmt::format("{}\n", ::getpid());
    if (::ftruncate(lock.get(), 0) != 0 || ::pwrite(lock.get(), pid.data(), pid.size(), 0) < 0)
        return fail_errno(errno, fmt::format("write {}", file.string()));
    return lock;
}

}  // namespace noid::vm
