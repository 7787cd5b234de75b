#pragma once

#include <termios.h>

#include <cstdint>
#include <optional>

#include "base/error.hpp"

namespace noid::cli {

struct WindowSize {
    std::uint16_t columns = 80;
    std::uint16_t rows = 24;
    bool operator==(const WindowSize&) const = default;
};

[[nodiscard]] bool is_terminal(int fd) noexcept;

// The size of the terminal behind `fd`; nullopt when it is none or does not know.
[[nodiscard]] std::optional<WindowSize> window_size(int fd) noexcept;

// A terminal that passes every byte on as it is typed and prints no echo, until the object is gone.
// At most one at a time in a process.
class RawMode {
  public:
    [[nodiscard]] static Result<RawMode> enter(int fd);
    RawMode(RawMode&& other) noexcept;
    RawMode& operator=(RawMode&&) = delete;
    ~RawMode();

    // Puts the terminal back as it was, if some RawMode lives. For the ways out of the process that
    // run no destructors. Async-signal-safe.
    static void restore_before_exit() noexcept;

  private:
    explicit RawMode(int fd) noexcept : fd_{fd} {}
    int fd_ = -1;
};

}  // namespace noid::cli
