#pragma once

#include <string>

#include "base/error.hpp"
#include "config/server_config.hpp"
#include "vm/types.hpp"

namespace noid::vm {

inline constexpr MiB least_memory{64};

// Checks what can be known from the request and the limits alone. `invalid` or `limit_exceeded`,
// with the value and what is allowed.
[[nodiscard]] Result<void> check(const CreateRequest& request, const config::ServerConfig::Limits& limits);

// The virtual size of the new VM's disk. invalid when what is asked for is less than the image,
// limit_exceeded when it is more than allowed.
[[nodiscard]] Result<MiB> disk_size(const CreateRequest& request, std::uint64_t image_bytes,
                                    const config::ServerConfig::Limits& limits);

// Equal exactly for requests that ask for the same VM; tells a repeated request from a changed one.
[[nodiscard]] std::string fingerprint(const CreateRequest& request);

}  // namespace noid::vm
