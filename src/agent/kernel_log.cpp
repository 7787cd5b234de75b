#include "agent/kernel_log.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>

#include "base/fd.hpp"

namespace noid::agent {

void kernel_log(LogLevel level, std::string_view line) noexcept {
    // The kernel cuts a record at about a kilobyte anyway.
    std::array<char, 960> record{};
    const int printed =
        std::snprintf(record.data(), record.size(), "<%u>noid-agent: %.*s\n", static_cast<unsigned>(level),
                      static_cast<int>(std::min<std::size_t>(line.size(), 900)), line.data());
    if (printed <= 0) return;
    const std::string_view text{record.data(), static_cast<std::size_t>(printed)};
    const Fd log{::open("/dev/kmsg", O_WRONLY | O_CLOEXEC | O_NOCTTY)};
    if (log && ::write(log.get(), text.data(), text.size()) > 0) return;
    const std::string_view without_level = text.substr(3);
    [[maybe_unused]] const ssize_t shown = ::write(STDERR_FILENO, without_level.data(), without_level.size());
}

}  // namespace noid::agent
