#include "firecracker/version.hpp"

#include <fmt/format.h>

#include <array>
#include <charconv>

namespace noid::firecracker {

namespace {

constexpr Version oldest_accepted{1, 16, 1};

struct Difference {
    Version since;
    bool Features::*feature;
};
constexpr std::array differences{
    Difference{{1, 17, 0}, &Features::bare_pause},
};

}  // namespace

std::string to_string(const Version& version) {
    return fmt::format("{}.{}.{}", version.major, version.minor, version.patch);
}

Result<Version> parse_version(std::string_view output) {
    constexpr std::string_view prefix = "Firecracker v";
    const auto fault = fail(Errc::corrupt, "this program does not print Firecracker's version");
    if (!output.starts_with(prefix)) return fault;
    output.remove_prefix(prefix.size());

    Version version;
    const char* at = output.data();
    const char* const end = at + output.size();
    for (auto* number : {&version.major, &version.minor, &version.patch}) {
        if (number != &version.major) {
            if (at == end || *at != '.') return fault;
            ++at;
        }
        const auto [next, error] = std::from_chars(at, end, *number);
        if (error != std::errc{}) return fault;
        at = next;
    }
    return version;
}

Result<Features> features_of(const Version& version) {
    if (version < oldest_accepted)
        return fail(Errc::unsupported,
                    fmt::format("Firecracker {} is too old: before {} a restored VM's vsock can be dead",
                                to_string(version), to_string(oldest_accepted)));
    Features features;
    for (const auto& difference : differences) features.*difference.feature = version >= difference.since;
    return features;
}

}  // namespace noid::firecracker
