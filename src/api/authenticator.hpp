#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <variant>

#include "api/rate_limiter.hpp"
#include "base/error.hpp"
#include "vm/tenant.hpp"

namespace noid::api {

// Why a request was not let in.
struct Refusal {
    Error error;
    std::chrono::seconds retry_after{0};  // 0: no advice
};

// From an Authorization header to a tenant. Failures are counted per source and per token prefix;
// ten within a minute block either. A blocked prefix still admits its valid token from a source
// without failures, so that nobody is locked out by knowing some of their digits. Thread-safe;
// memory is bounded.
class Authenticator {
  public:
    using Lookup = std::function<Result<std::shared_ptr<vm::Tenant>>(std::string_view token)>;
    using Outcome = std::variant<std::shared_ptr<vm::Tenant>, Refusal>;
    using Clock = FailureWindow::Clock;

    explicit Authenticator(Lookup lookup) : lookup_{std::move(lookup)} {}

    // `authorization` is the header's value, empty when there was none. `source` is where the request
    // comes from, see source_of().
    [[nodiscard]] Outcome authenticate(std::string_view authorization, std::string_view source,
                                       Clock::time_point now);

    // Whether the token of this header, which was let in before, is still one. Counts nothing.
    [[nodiscard]] Result<void> check(std::string_view authorization) const;

  private:
    Lookup lookup_;
    std::mutex mutex_;
    FailureWindow sources_{10, std::chrono::seconds{60}, 8192};
    FailureWindow prefixes_{10, std::chrono::seconds{60}, 8192};
};

// What failures are counted for: an IPv4 address, or the /64 of an IPv6 address, since one host has
// all of that. Text that is no address stands for itself.
[[nodiscard]] std::string source_of(std::string_view address);

// The address that the nearest proxy added to X-Forwarded-For, empty when there is no valid one.
[[nodiscard]] std::string forwarded_address(std::string_view header);

}  // namespace noid::api
