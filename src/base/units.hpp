#pragma once

#include <compare>
#include <cstdint>

namespace noid {

// An amount of memory or disk in mebibytes. A type of its own so that bytes and MiB never mix.
struct MiB {
    std::uint64_t count = 0;
    [[nodiscard]] constexpr std::uint64_t bytes() const noexcept { return count << 20; }
    auto operator<=>(const MiB&) const = default;
};

}  // namespace noid
