#pragma once

#include <cstdint>
#include <string_view>

namespace noid::agent {

// Levels as the kernel has them. With `quiet` on the kernel's command line the console shows errors.
enum class LogLevel : std::uint8_t { error = 3, info = 6 };

// Writes one line into the kernel's log, which is in order with the kernel's own lines, stamped,
// and shown on the serial console. Without /dev/kmsg the line goes to standard error. Never fails.
void kernel_log(LogLevel level, std::string_view line) noexcept;

}  // namespace noid::agent
