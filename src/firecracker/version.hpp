#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.hpp"

namespace noid::firecracker {

struct Version {
    std::uint32_t major = 0;
    std::uint32_t minor = 0;
    std::uint32_t patch = 0;
    auto operator<=>(const Version&) const = default;
};

[[nodiscard]] std::string to_string(const Version& version);  // "1.16.1"

// Reads what `firecracker --version` prints ("Firecracker v1.16.1" and more lines). corrupt if there is
// no version in it.
[[nodiscard]] Result<Version> parse_version(std::string_view output);

// What differs between the versions that are accepted.
struct Features {
    // After Paused and Resumed with no snapshot between, new connections to the guest's vsock work. Where
    // they do not, Machine::resume() sees to it.
    bool bare_pause = false;
};

// unsupported, with the reason, for a version older than the oldest that is accepted.
[[nodiscard]] Result<Features> features_of(const Version& version);

}  // namespace noid::firecracker
