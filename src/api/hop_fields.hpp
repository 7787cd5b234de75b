#pragma once

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "api/head_lines.hpp"

// Header fields of one hop only, which a proxy does not pass on.
namespace noid::api {

// As names of fields are compared.
[[nodiscard]] bool same(std::string_view a, std::string_view b) noexcept;
[[nodiscard]] bool is_one_of(std::string_view name, const auto& names) {
    return std::any_of(names.begin(), names.end(), [&](std::string_view other) { return same(name, other); });
}

[[nodiscard]] std::string_view trimmed(std::string_view text) noexcept;
template <class Visit>
void split(std::string_view list, char separator, Visit visit) {
    while (!list.empty()) {
        const std::size_t end = std::min(list.find(separator), list.size());
        if (const auto item = trimmed(list.substr(0, end)); !item.empty()) visit(item);
        list.remove_prefix(std::min(end + 1, list.size()));
    }
}

// RFC 9110 section 7.6.1, and what frames a message.
inline constexpr std::array<std::string_view, 11> hop_fields{
    "Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization",
    "TE",         "Trailer",    "Upgrade",          "Transfer-Encoding",  "Content-Length",
    "Expect"};
// Those that the message itself names as such.
[[nodiscard]] std::vector<std::string> named_by_connection(const std::vector<HeaderField>& fields);

}  // namespace noid::api
