#include "cli/server_url.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <boost/url.hpp>
#include <boost/url/src.hpp>  // Debian's Boost 1.81 has no library for it in its default set
#include <cctype>

#include "cli/quantities.hpp"

namespace noid::cli {
namespace {

std::string_view trim(std::string_view text) {
    constexpr auto space = " \t\r\n\f\v";
    const auto first = text.find_first_not_of(space);
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of(space) - first + 1);
}

}  // namespace

Result<ServerUrl> ServerUrl::parse(std::string_view given) {
    auto text = trim(given);
    while (text.ends_with('/')) text.remove_suffix(1);
    if (text.empty()) return fail(Errc::invalid, "server URL cannot be empty");
    if (text.ends_with(':') && text.find("://") == std::string_view::npos)
        return fail(Errc::invalid, "server URL must include host");  // "http://" without its slashes

    const auto scheme_end = text.find("://");
    if (scheme_end == std::string_view::npos || scheme_end == 0)
        return fail(Errc::invalid, "server URL must include scheme (http:// or https://)");
    std::string scheme{text.substr(0, scheme_end)};
    std::ranges::transform(scheme, scheme.begin(),
                           [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    if (scheme != "http" && scheme != "https")
        return fail(Errc::invalid,
                    fmt::format("unsupported URL scheme '{}' (expected http:// or https://)", scheme));

    const auto parsed = boost::urls::parse_uri(text);
    if (!parsed) return fail(Errc::invalid, fmt::format("server URL is malformed: {}", text));
    if (parsed->host().empty()) return fail(Errc::invalid, "server URL must include host");
    if (parsed->has_query() || parsed->has_fragment() || parsed->has_userinfo())
        return fail(Errc::invalid, "server URL must be scheme, host, port and path only");

    ServerUrl url;
    url.text = text;
    url.tls = scheme == "https";
    url.host = parsed->host_address();
    url.port = url.tls ? 443 : 80;
    if (parsed->has_port() && !parsed->port().empty()) {
        const auto port = parse_port(std::string_view{parsed->port().data(), parsed->port().size()});
        if (!port) return fail(Errc::invalid, "server URL has a port that is no port");
        url.port = *port;
    }
    url.path = std::string{parsed->encoded_path()};
    return url;
}

std::string ServerUrl::authority() const {
    const bool bracketed = host.find(':') != std::string::npos;
    const auto name = bracketed ? fmt::format("[{}]", host) : host;
    return port == (tls ? 443 : 80) ? name : fmt::format("{}:{}", name, port);
}

std::string encode_query_value(std::string_view text) {
    return boost::urls::encode(text, boost::urls::unreserved_chars);
}

}  // namespace noid::cli
