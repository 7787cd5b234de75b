#pragma once

#include <cstdint>
#include <string_view>

namespace noid::cli {

inline constexpr std::string_view version = NOID_VERSION;
// What X-Noid-Api-Version of a server must say.
inline constexpr std::uint32_t api_version = 1;

}  // namespace noid::cli
