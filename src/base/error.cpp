#include "base/error.hpp"

#include <cerrno>

namespace noid {

std::string_view name_of(Errc code) noexcept {
    switch (code) {
        case Errc::invalid:
            return "invalid";
        case Errc::unauthenticated:
            return "unauthenticated";
        case Errc::forbidden:
            return "forbidden";
        case Errc::not_found:
            return "not_found";
        case Errc::conflict:
            return "conflict";
        case Errc::too_large:
            return "too_large";
        case Errc::limit_exceeded:
            return "limit_exceeded";
        case Errc::rate_limited:
            return "rate_limited";
        case Errc::timed_out:
            return "timed_out";
        case Errc::cancelled:
            return "cancelled";
        case Errc::unavailable:
            return "unavailable";
        case Errc::unsupported:
            return "unsupported";
        case Errc::no_space:
            return "no_space";
        case Errc::corrupt:
            return "corrupt";
        case Errc::internal:
            return "internal";
    }
    return "internal";
}

std::optional<Errc> errc_named(std::string_view name) noexcept {
    for (auto code = Errc::invalid; code <= Errc::internal;
         code = static_cast<Errc>(std::to_underlying(code) + 1)) {
        if (name_of(code) == name) return code;
    }
    return std::nullopt;
}

std::string Error::full() const {
    if (!cause) return what;
    return what + " (" + cause.message() + ")";
}

namespace {

Errc code_for(int error_number) noexcept {
    switch (error_number) {
        case ENOENT:
            return Errc::not_found;
        case ENOSPC:
        case EDQUOT:
            return Errc::no_space;
        case EEXIST:
            return Errc::conflict;
        case EACCES:
        case EPERM:
            return Errc::forbidden;
        case ETIMEDOUT:
            return Errc::timed_out;
        default:
            return Errc::internal;
    }
}

}  // namespace

std::unexpected<Error> fail_errno(int error_number, std::string what) {
    std::error_code cause{error_number, std::generic_category()};
    what += ": " + cause.message();
    return std::unexpected(Error{code_for(error_number), std::move(what), cause});
}

}  // namespace noid
