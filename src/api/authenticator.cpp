#include "api/authenticator.hpp"

#include <algorithm>
#include <boost/asio/ip/address.hpp>

namespace noid::api {

namespace {

constexpr std::string_view scheme = "Bearer ";
constexpr std::string_view token_prefix = "noid_tok_";
constexpr std::size_t counted_prefix = 16;

std::string_view counted_part(std::string_view token) noexcept {
    if (token.starts_with(token_prefix)) token.remove_prefix(token_prefix.size());
    return token.substr(0, counted_prefix);
}

Refusal too_many(std::chrono::seconds retry_after) {
    return Refusal{Error{Errc::rate_limited, "too many authentication failures, try again later", {}},
                   retry_after};
}

}  // namespace

Authenticator::Outcome Authenticator::authenticate(std::string_view authorization, std::string_view source,
                                                   Clock::time_point now) {
    if (!authorization.starts_with(scheme))
        return Refusal{Error{Errc::unauthenticated, "missing or invalid Authorization header", {}}};
    const std::string_view token = authorization.substr(scheme.size());
    const std::string_view prefix = counted_part(token);
    const std::string counted_source = source_of(source);
    std::optional<std::chrono::seconds> prefix_blocked;
    {
        const std::lock_guard lock{mutex_};
        if (const auto wait = sources_.blocked_for(counted_source, now)) return too_many(*wait);
        prefix_blocked = prefixes_.blocked_for(prefix, now);
        if (prefix_blocked && sources_.has_failures(counted_source, now)) return too_many(*prefix_blocked);
    }
    auto tenant = lookup_(token);
    if (tenant) return std::move(*tenant);
    if (tenant.error().code != Errc::unauthenticated) return Refusal{std::move(tenant).error()};
    const std::lock_guard lock{mutex_};
    sources_.count_failure(counted_source, now);
    prefixes_.count_failure(prefix, now);
    if (prefix_blocked) return too_many(*prefix_blocked);
    return Refusal{Error{Errc::unauthenticated, "invalid token", {}}};
}

Result<void> Authenticator::check(std::string_view authorization) const {
    if (!authorization.starts_with(scheme)) return fail(Errc::unauthenticated, "invalid token");
    const auto tenant = lookup_(authorization.substr(scheme.size()));
    if (!tenant) return fail(tenant.error());
    return {};
}

std::string source_of(std::string_view address) {
    boost::system::error_code error;
    const auto parsed = boost::asio::ip::make_address(address, error);
    if (error || parsed.is_v4()) return std::string{address};
    const auto v6 = parsed.to_v6();
    if (v6.is_v4_mapped())
        return boost::asio::ip::make_address_v4(boost::asio::ip::v4_mapped, v6).to_string();
    auto bytes = v6.to_bytes();
    std::fill(bytes.begin() + 8, bytes.end(), static_cast<unsigned char>(0));
    return boost::asio::ip::make_address_v6(bytes).to_string() + "/64";
}

std::string forwarded_address(std::string_view header) {
    const std::size_t comma = header.rfind(',');
    std::string_view last = comma == std::string_view::npos ? header : header.substr(comma + 1);
    while (!last.empty() && last.front() == ' ') last.remove_prefix(1);
    while (!last.empty() && last.back() == ' ') last.remove_suffix(1);
    boost::system::error_code error;
    const auto parsed = boost::asio::ip::make_address(last, error);
    return error ? std::string{} : parsed.to_string();
}

}  // namespace noid::api
