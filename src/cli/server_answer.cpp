#include "cli/server_answer.hpp"

#include <fmt/format.h>

#include <boost/json.hpp>
#include <charconv>
#include <optional>

#include "cli/failure.hpp"
#include "cli/version.hpp"

namespace noid::cli {
namespace {

Errc code_of(unsigned status) {
    switch (status) {
        case 400:
        case 405:
        case 415:
        case 422:
            return Errc::invalid;
        case 401:
            return Errc::unauthenticated;
        case 403:
            return Errc::forbidden;
        case 404:
            return Errc::not_found;
        case 409:
        case 412:
            return Errc::conflict;
        case 408:
        case 504:
            return Errc::timed_out;
        case 413:
            return Errc::too_large;
        case 429:
            return Errc::rate_limited;
        case 501:
            return Errc::unsupported;
        case 502:
        case 503:
            return Errc::unavailable;
        case 507:
            return Errc::no_space;
        default:
            return Errc::internal;
    }
}

struct Said {
    std::string text;
    std::optional<Errc> code;  // this server's answers have one
};

Said said_in(std::string_view body) {
    boost::system::error_code malformed;
    const auto value = boost::json::parse({body.data(), body.size()}, malformed);
    if (!malformed && value.is_object()) {
        const auto& object = value.get_object();
        const auto* text = object.if_contains("error");
        const auto* code = object.if_contains("code");
        if (text && text->is_string()) {
            return {std::string{text->get_string()},
                    code && code->is_string() ? errc_named(code->get_string()) : std::nullopt};
        }
    }
    constexpr std::size_t most = 2048;  // a proxy's error page, say
    return {std::string{body.substr(0, most)}, std::nullopt};
}

std::string_view advice_for(unsigned status) {
    if (status == 401) return "\nCheck the token: noid auth setup --url <url> --token <token>";
    return "";
}

}  // namespace

Error error_of_answer(unsigned status, std::string_view body) {
    const auto said = said_in(body);
    return Error{said.code.value_or(code_of(status)),
                 fmt::format("server error ({}): {}{}", status, printable(said.text), advice_for(status)),
                 {}};
}

Result<void> check_api_version(std::string_view header) {
    std::uint32_t theirs = 0;
    const auto [rest, failure] = std::from_chars(header.data(), header.data() + header.size(), theirs);
    if (failure != std::errc{} || rest != header.data() + header.size())
        return fail(Errc::unsupported,
                    fmt::format("the server sent an API version that is no number: '{}'", printable(header)));
    if (theirs != api_version) {
        return fail(
            Errc::unsupported,
            fmt::format("the server speaks API version {}, this client {}: install the client that belongs "
                        "to the server",
                        theirs, api_version));
    }
    return {};
}

}  // namespace noid::cli
