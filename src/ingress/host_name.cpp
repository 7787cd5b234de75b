#include "ingress/host_name.hpp"

#include <algorithm>
#include <charconv>

namespace noid::ingress {

namespace {

constexpr std::size_t longest_label = 63;
constexpr std::string_view digits = "0123456789abcdef";

bool is_plain(char c) noexcept {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

char lower(char c) noexcept {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

void append(std::string& label, std::string_view name) {
    for (std::size_t i = 0; i < name.size(); ++i) {
        const char c = name[i];
        const bool inside = i > 0 && i + 1 < name.size() && is_plain(name[i - 1]) && is_plain(name[i + 1]);
        if (is_plain(c)) {
            label.push_back(c);
        } else if (c == '-' && inside) {
            label += "--";
        } else {
            const auto byte = static_cast<unsigned char>(c);
            label += "---";
            label.push_back(digits[byte >> 4]);
            label.push_back(digits[byte & 15]);
        }
    }
}

// Reads one name off the front, and the separator behind it.
std::optional<std::string> take_name(std::string_view& rest) {
    std::string name;
    while (!rest.empty()) {
        const std::size_t run = std::min(rest.find_first_not_of('-'), rest.size());
        if (run == 0) {
            name.push_back(rest.front());
            rest.remove_prefix(1);
            continue;
        }
        const bool separates = !name.empty() && (run == 1 || run == 4);
        if (separates) {
            rest.remove_prefix(1);
            return name;
        }
        if (run == 2) {
            name.push_back('-');
            rest.remove_prefix(2);
            continue;
        }
        if (run != 3 || rest.size() < 5) return std::nullopt;
        const std::size_t high = digits.find(rest[3]);
        const std::size_t low = digits.find(rest[4]);
        if (high == std::string_view::npos || low == std::string_view::npos) return std::nullopt;
        name.push_back(static_cast<char>(high << 4 | low));
        rest.remove_prefix(5);
    }
    return name;
}

}  // namespace

std::optional<std::string> to_label(const GuestName& name) {
    std::string label = std::to_string(name.port);
    label.push_back('-');
    append(label, name.vm);
    label.push_back('-');
    append(label, name.user);
    if (label.size() > longest_label || label.ends_with('-')) return std::nullopt;
    return label;
}

std::optional<GuestName> parse_label(std::string_view label) {
    if (label.size() > longest_label) return std::nullopt;
    if (!std::all_of(label.begin(), label.end(), [](char c) { return is_plain(c) || c == '-'; }))
        return std::nullopt;
    GuestName name;
    const char* const begin = label.data();
    const auto [end, error] = std::from_chars(begin, begin + label.size(), name.port);
    std::string_view rest = label.substr(static_cast<std::size_t>(end - begin));
    if (error != std::errc{} || name.port == 0 || !rest.starts_with('-')) return std::nullopt;
    rest.remove_prefix(1);
    auto vm = take_name(rest);
    auto user = take_name(rest);
    if (!vm || !user || !rest.empty()) return std::nullopt;
    name.vm = std::move(*vm);
    name.user = std::move(*user);
    // One spelling for each name: leading zeros, needless escapes and the like are none.
    if (to_label(name) != label) return std::nullopt;
    return name;
}

std::optional<std::string> label_of_host(std::string_view host, std::string_view domain) {
    if (domain.empty()) return std::nullopt;
    if (const std::size_t colon = host.rfind(':'); colon != std::string_view::npos) {
        const std::string_view port = host.substr(colon + 1);
        if (!std::all_of(port.begin(), port.end(), [](char c) { return c >= '0' && c <= '9'; }))
            return std::nullopt;
        host = host.substr(0, colon);
    }
    if (host.ends_with('.')) host.remove_suffix(1);
    if (host.size() < domain.size() + 2) return std::nullopt;
    const std::string_view suffix = host.substr(host.size() - domain.size());
    const bool below = host[host.size() - domain.size() - 1] == '.' &&
                       std::equal(suffix.begin(), suffix.end(), domain.begin(), domain.end(),
                                  [](char a, char b) { return lower(a) == lower(b); });
    if (!below) return std::nullopt;
    std::string label{host.substr(0, host.size() - domain.size() - 1)};
    std::transform(label.begin(), label.end(), label.begin(), lower);
    const std::size_t number = label.find_first_not_of("0123456789");
    if (number == 0 || number == std::string::npos || label[number] != '-') return std::nullopt;
    if (label.find('.') != std::string::npos) return std::nullopt;
    return label;
}

}  // namespace noid::ingress
