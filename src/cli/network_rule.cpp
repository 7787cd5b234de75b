#include "cli/network_rule.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

namespace noid::cli {
namespace {

constexpr std::array<std::string_view, 4> protocols{"any", "tcp", "udp", "icmp"};

// Between separators, the empty ones too.
std::vector<std::string> split(std::string_view text, char separator) {
    std::vector<std::string> parts;
    for (;;) {
        const auto end = text.find(separator);
        parts.emplace_back(text.substr(0, end));
        if (end == std::string_view::npos) return parts;
        text.remove_prefix(end + 1);
    }
}

}  // namespace

Result<wire::NetworkRule> parse_network_rule(std::string_view text) {
    wire::NetworkRule rule;
    auto parts = split(text, ':');
    auto part = parts.begin();
    if (parts.size() > 1 && std::ranges::find(protocols, *part) != protocols.end()) rule.protocol = *part++;
    rule.to = *part++;
    if (part != parts.end()) rule.ports = split(*part++, ',');
    const auto is_empty = [](const std::string& each) { return each.empty(); };
    if (part != parts.end() || rule.to.empty() || std::ranges::any_of(rule.ports, is_empty)) {
        return fail(Errc::invalid,
                    fmt::format("'{}' is no rule (expected [tcp:|udp:|icmp:]TO[:PORTS], as 10.0.0.0/8 or "
                                "*.debian.org:80,443)",
                                text));
    }
    return rule;
}

}  // namespace noid::cli
