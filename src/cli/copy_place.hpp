#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.hpp"
#include "cli/commands.hpp"

namespace noid::cli {

// One side of `noid cp`.
struct CopyPlace {
    enum class Where : std::uint8_t { host, guest, standard_stream };
    Where where = Where::host;
    VmArgument vm;     // guest only
    std::string path;  // guest: absolute

    // "HOSTPATH", "NAME:PATH", ":PATH" (the active VM) or "-". A colon behind a slash, or in a text that
    // begins with ".", belongs to a host path. `invalid` for a path in a VM that is not absolute.
    [[nodiscard]] static Result<CopyPlace> parse(std::string_view text);
    bool operator==(const CopyPlace&) const = default;
};

// The last component of a path, slashes at its end aside; empty for "/".
[[nodiscard]] std::string_view last_component(std::string_view path);
// `directory` and `name` as one path.
[[nodiscard]] std::string join_path(std::string_view directory, std::string_view name);

}  // namespace noid::cli
