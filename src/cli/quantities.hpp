#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/error.hpp"

// Amounts as people write them on a command line. Errors are `invalid` and name the spellings.
namespace noid::cli {

// "90", "90s", "1.5s", "500ms", "5m", "2h", "7d": a duration greater than zero; bare numbers are seconds.
[[nodiscard]] Result<std::chrono::milliseconds> parse_duration(std::string_view text);

// How often the server does something by itself; no length: never.
struct Interval {
    std::optional<std::chrono::seconds> length;
};
// As parse_duration(), whole seconds only; or "off".
[[nodiscard]] Result<Interval> parse_interval(std::string_view text);

// "2048", "2048M", "2048MiB", "4G", "4GiB": a size in MiB greater than zero; bare numbers are MiB.
[[nodiscard]] Result<std::uint32_t> parse_mebibytes(std::string_view text);

// As parse_mebibytes(), or "off", which is 0.
[[nodiscard]] Result<std::uint64_t> parse_balloon(std::string_view text);

// "1000000", "500K", "10M", "1G" (powers of 1000), or "off", which is 0: bytes per second.
[[nodiscard]] Result<std::uint64_t> parse_rate(std::string_view text);

// 1 to 65535.
[[nodiscard]] Result<std::uint16_t> parse_port(std::string_view text);

}  // namespace noid::cli
