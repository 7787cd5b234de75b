#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.hpp"

namespace noid::cli {

// Where a server is, checked and taken apart.
struct ServerUrl {
    std::string text;  // as configured, without trailing slashes
    bool tls = false;  // https
    std::string host;  // name or address, IPv6 without brackets
    std::uint16_t port = 0;
    std::string path;  // prefix of every request, "" or "/noid"

    // `invalid`, with the texts that users of `noid auth setup` know, for anything but
    // http://HOST[:PORT][/PATH] and https://... .
    [[nodiscard]] static Result<ServerUrl> parse(std::string_view text);

    // The value of the Host header.
    [[nodiscard]] std::string authority() const;
};

// `text` so that it can stand as a value in a query string.
[[nodiscard]] std::string encode_query_value(std::string_view text);

}  // namespace noid::cli
