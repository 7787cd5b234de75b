#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace noid {

// The closed set of ways in which an operation can fail. Only api/ maps them to HTTP status codes.
enum class Errc : std::uint8_t {
    invalid,          // the caller's input is wrong; repeating it cannot help
    unauthenticated,  // no token, or a token nobody has
    forbidden,        // known caller, not allowed
    not_found,        // no such object (also: somebody else's object)
    conflict,         // exists already, or is in the wrong state for this
    too_large,        // exceeds a size bound
    limit_exceeded,   // a quota or a configured limit
    rate_limited,     // too many attempts; later may help
    timed_out,        // a deadline passed
    cancelled,        // the caller went away or asked to stop
    unavailable,      // a part that is needed is not there now (no KVM, no netd, VM dead)
    unsupported,      // this VMM, file system or guest cannot do it
    no_space,         // disk or quota full
    corrupt,          // data from disk, guest or VMM does not hold what it must
    internal,         // everything else; a bug or a broken host
};

// The stable, lower-case name of a code, as it appears in API answers and logs ("not_found").
[[nodiscard]] std::string_view name_of(Errc code) noexcept;
[[nodiscard]] std::optional<Errc> errc_named(std::string_view name) noexcept;

// One failure: what kind, what was tried and why it failed.
struct Error {
    Errc code = Errc::internal;
    std::string what;         // safe to show the caller: no host paths of others, no secrets
    std::error_code cause{};  // the system's reason, if there was one; logged

    // Puts what the caller was doing in front: "create VM 'a': no space left".
    [[nodiscard]] Error at(std::string_view doing) && {
        what.insert(0, std::string{doing} + ": ");
        return std::move(*this);
    }
    // The message with the system's reason, for logs.
    [[nodiscard]] std::string full() const;
};

template <class T>
using Result = std::expected<T, Error>;

// Short forms for `return fail(...)`.
[[nodiscard]] inline std::unexpected<Error> fail(Errc code, std::string what) {
    return std::unexpected(Error{code, std::move(what), {}});
}
[[nodiscard]] inline std::unexpected<Error> fail(Error error) {
    return std::unexpected(std::move(error));
}

// Turns an errno into an Error: ENOENT is not_found, ENOSPC/EDQUOT no_space, EEXIST conflict,
// EACCES/EPERM forbidden, ETIMEDOUT timed_out, everything else internal.
// `what` says what was tried; the system's text is appended.
[[nodiscard]] std::unexpected<Error> fail_errno(int error_number, std::string what);

}  // namespace noid
