#include "cli/quantities.hpp"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <limits>
#include <optional>

namespace noid::cli {
namespace {

struct Quantity {
    double count = 0;
    std::string_view unit;
};

// A number greater than zero and what follows it.
std::optional<Quantity> parse_quantity(std::string_view text) {
    Quantity quantity;
    const auto* end = text.data() + text.size();
    const auto [rest, failure] = std::from_chars(text.data(), end, quantity.count, std::chars_format::fixed);
    if (failure != std::errc{} || !std::isfinite(quantity.count) || quantity.count <= 0) return std::nullopt;
    quantity.unit = {rest, static_cast<std::size_t>(end - rest)};
    return quantity;
}

}  // namespace

Result<std::chrono::milliseconds> parse_duration(std::string_view text) {
    double factor = 0;
    const auto quantity = parse_quantity(text);
    if (quantity) {
        if (quantity->unit.empty() || quantity->unit == "s") factor = 1e3;
        if (quantity->unit == "ms") factor = 1;
        if (quantity->unit == "m") factor = 60e3;
        if (quantity->unit == "h") factor = 3600e3;
        if (quantity->unit == "d") factor = 24 * 3600e3;
    }
    constexpr double most = 366.0 * 24 * 3600e3;
    const double milliseconds = quantity ? quantity->count * factor : 0;
    if (milliseconds < 1 || milliseconds > most)
        return fail(Errc::invalid,
                    fmt::format("'{}' is no duration (expected 30s, 1.5s, 500ms, 5m, 2h, 7d)", text));
    return std::chrono::milliseconds{std::llround(milliseconds)};
}

Result<Interval> parse_interval(std::string_view text) {
    if (text == "off") return Interval{};
    auto length = parse_duration(text);
    if (!length || length->count() % 1000 != 0)
        return fail(Errc::invalid, fmt::format("'{}' is no interval (expected 30s, 5m, 2h, or off)", text));
    return Interval{std::chrono::duration_cast<std::chrono::seconds>(*length)};
}

Result<std::uint32_t> parse_mebibytes(std::string_view text) {
    double factor = 0;
    const auto quantity = parse_quantity(text);
    if (quantity) {
        if (quantity->unit.empty() || quantity->unit == "M" || quantity->unit == "MiB") factor = 1;
        if (quantity->unit == "G" || quantity->unit == "GiB") factor = 1024;
    }
    const double mebibytes = quantity ? quantity->count * factor : 0;
    if (mebibytes < 1 || mebibytes > std::numeric_limits<std::uint32_t>::max() ||
        mebibytes != std::floor(mebibytes))
        return fail(Errc::invalid, fmt::format("'{}' is no size (expected MiB as 2048, or 512M, 4G)", text));
    return static_cast<std::uint32_t>(mebibytes);
}

Result<std::uint64_t> parse_balloon(std::string_view text) {
    if (text == "off") return 0;
    const auto size = parse_mebibytes(text);
    if (!size)
        return fail(Errc::invalid,
                    fmt::format("'{}' is no size (expected MiB as 512, or 512M, 1G, off)", text));
    return *size;
}

Result<std::uint64_t> parse_rate(std::string_view text) {
    if (text == "off") return 0;
    double factor = 0;
    const auto quantity = parse_quantity(text);
    if (quantity) {
        if (quantity->unit.empty()) factor = 1;
        if (quantity->unit == "K") factor = 1e3;
        if (quantity->unit == "M") factor = 1e6;
        if (quantity->unit == "G") factor = 1e9;
    }
    constexpr double most = 1e12;
    const double rate = quantity ? std::round(quantity->count * factor) : 0;
    if (rate < 1 || rate > most)
        return fail(Errc::invalid,
                    fmt::format("'{}' is no rate (expected bytes per second as 500K, 10M, or off)", text));
    return static_cast<std::uint64_t>(rate);
}

Result<std::uint16_t> parse_port(std::string_view text) {
    std::uint16_t port = 0;
    const auto [rest, failure] = std::from_chars(text.data(), text.data() + text.size(), port);
    if (failure != std::errc{} || rest != text.data() + text.size() || port == 0)
        return fail(Errc::invalid, fmt::format("'{}' is no port (expected 1 to 65535)", text));
    return port;
}

}  // namespace noid::cli
