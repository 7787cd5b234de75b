#include "cli/terminal.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <utility>

namespace noid::cli {
namespace {

// Where restore_before_exit() finds what to do. `raw_fd` is set last and cleared first.
termios saved_settings;
std::atomic<int> raw_fd{-1};
static_assert(std::atomic<int>::is_always_lock_free);

}  // namespace

bool is_terminal(int fd) noexcept {
    return ::isatty(fd) == 1;
}

std::optional<WindowSize> window_size(int fd) noexcept {
    winsize size{};
    if (::ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0) return std::nullopt;
    return WindowSize{size.ws_col, size.ws_row};
}

Result<RawMode> RawMode::enter(int fd) {
    if (::tcgetattr(fd, &saved_settings) != 0)
        return fail_errno(errno, "cannot read the terminal's settings");
    termios raw = saved_settings;
    ::cfmakeraw(&raw);
    raw_fd.store(fd);
    RawMode mode{fd};
    if (::tcsetattr(fd, TCSADRAIN, &raw) != 0) return fail_errno(errno, "cannot make the terminal raw");
    return mode;
}

RawMode::RawMode(RawMode&& other) noexcept : fd_{std::exchange(other.fd_, -1)} {}

RawMode::~RawMode() {
    if (fd_ >= 0) restore_before_exit();
}

void RawMode::restore_before_exit() noexcept {
    if (const int fd = raw_fd.exchange(-1); fd >= 0) ::tcsetattr(fd, TCSADRAIN, &saved_settings);
}

}  // namespace noid::cli
