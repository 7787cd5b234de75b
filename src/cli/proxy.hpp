#pragma once

#include <optional>

#include "base/error.hpp"
#include "cli/environment.hpp"
#include "cli/server_url.hpp"

namespace noid::cli {

// The proxy for requests to `server`: that of HTTPS_PROXY, HTTP_PROXY or ALL_PROXY (either case)
// when NOID_USE_SYSTEM_PROXY says so and NO_PROXY does not exempt the host. Only http:// proxies.
[[nodiscard]] Result<std::optional<ServerUrl>> choose_proxy(const ServerUrl& server,
                                                            const Environment& environment);

// Whether variables name a proxy that is not used for want of NOID_USE_SYSTEM_PROXY.
[[nodiscard]] bool ignores_proxy(const ServerUrl& server, const Environment& environment);

}  // namespace noid::cli
