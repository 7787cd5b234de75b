#include "net/policy.hpp"

#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <charconv>
#include <initializer_list>

#include "wire/json.hpp"

namespace noid::net {

namespace json = boost::json;

namespace {

template <class T>
struct Spelling {
    std::string_view name;
    T value;
};
constexpr std::array modes{Spelling{"none", Mode::none}, Spelling{"egress", Mode::egress},
                           Spelling{"open", Mode::open}};
constexpr std::array actions{Spelling{"allow", Action::allow}, Spelling{"deny", Action::deny}};
constexpr std::array protocols{Spelling{"any", Protocol::any}, Spelling{"tcp", Protocol::tcp},
                               Spelling{"udp", Protocol::udp}, Spelling{"icmp", Protocol::icmp}};

template <class T, std::size_t N>
std::optional<T> parse_spelling(const std::array<Spelling<T>, N>& spellings, std::string_view text) {
    for (const auto& each : spellings)
        if (each.name == text) return each.value;
    return std::nullopt;
}

template <class T, std::size_t N>
std::string_view spell(const std::array<Spelling<T>, N>& spellings, T value) {
    for (const auto& each : spellings)
        if (each.value == value) return each.name;
    return "";
}

bool is_label(std::string_view label) {
    constexpr std::size_t longest = 63;
    if (label.empty() || label.size() > longest || label.front() == '-' || label.back() == '-') return false;
    return std::all_of(label.begin(), label.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
    });
}

// `name` in lower case. Names that are numbers are refused: "10.0.0" is a mistyped address.
bool is_host_name(std::string_view name) {
    constexpr std::size_t longest = 253;
    if (name.empty() || name.size() > longest) return false;
    std::string_view label;
    for (std::string_view rest = name;;) {
        const auto dot = rest.find('.');
        label = rest.substr(0, dot);
        if (!is_label(label)) return false;
        if (dot == std::string_view::npos) break;
        rest.remove_prefix(dot + 1);
    }
    return !std::all_of(label.begin(), label.end(), [](char c) { return c >= '0' && c <= '9'; });
}

std::optional<std::uint16_t> parse_port(std::string_view text) {
    std::uint16_t port = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
    if (error != std::errc{} || end != text.data() + text.size() || port == 0) return std::nullopt;
    return port;
}

// "443" or "8000-8100".
std::optional<PortRange> parse_ports(std::string_view text) {
    const auto dash = text.find('-');
    const auto first = parse_port(text.substr(0, dash));
    const auto last = dash == std::string_view::npos ? first : parse_port(text.substr(dash + 1));
    if (!first || !last || *first > *last) return std::nullopt;
    return PortRange{*first, *last};
}

std::string to_string(const PortRange& range) {
    if (range.first == range.last) return std::to_string(range.first);
    return fmt::format("{}-{}", range.first, range.last);
}

// False: neither kind of destination.
bool parse_destination(std::string_view text, Destination& out) {
    if (text.empty() || text == "*") return true;
    if (const auto network = parse_ipv4_network(text)) {
        out = *network;
        return true;
    }
    auto pattern = parse_name_pattern(text);
    if (!pattern) return false;
    out = std::move(*pattern);
    return true;
}

std::string to_string(const Destination& destination) {
    if (const auto* network = std::get_if<Ipv4Network>(&destination)) return network->to_string();
    if (const auto* pattern = std::get_if<NamePattern>(&destination)) return to_string(*pattern);
    return "*";
}

void refuse_others(wire::FieldReader& fields, const json::value& value,
                   std::initializer_list<std::string_view> known) {
    const auto* object = value.if_object();
    if (object == nullptr) return;
    for (const auto& member : *object) {
        const std::string_view key{member.key().data(), member.key().size()};
        if (std::find(known.begin(), known.end(), key) == known.end())
            fields.wrong(fmt::format("unknown field '{:.64}'", key));
    }
}

Result<Rule> parse_rule(const json::value& value) {
    Rule rule;
    std::string action;
    std::string to;
    std::string protocol = "any";
    std::vector<std::string> ports;
    wire::FieldReader fields{value};
    refuse_others(fields, value, {"action", "to", "protocol", "ports"});
    fields.required("action", action);
    fields.optional("to", to);
    fields.optional("protocol", protocol);
    fields.optional("ports", ports);
    if (auto read = fields.done(); !read) return fail(std::move(read.error()));

    const auto parsed_action = parse_spelling(actions, action);
    if (!parsed_action) return fail(Errc::invalid, "field 'action' must be \"allow\" or \"deny\"");
    rule.action = *parsed_action;
    if (!parse_destination(to, rule.to)) {
        return fail(Errc::invalid, fmt::format("'{:.64}' is neither an IPv4 network such as 10.0.0.0/8 nor a "
                                               "host name such as example.com or *.example.com",
                                               to));
    }
    const auto parsed_protocol = parse_spelling(protocols, protocol);
    if (!parsed_protocol)
        return fail(Errc::invalid, "field 'protocol' must be \"any\", \"tcp\", \"udp\" or \"icmp\"");
    rule.protocol = *parsed_protocol;
    if (ports.size() > max_port_ranges)
        return fail(Errc::too_large, fmt::format("more than {} port ranges", max_port_ranges));
    if (!ports.empty() && rule.protocol == Protocol::icmp) return fail(Errc::invalid, "ICMP has no ports");
    for (const auto& text : ports) {
        const auto range = parse_ports(text);
        if (!range)
            return fail(Errc::invalid, fmt::format("'{:.64}' is not a port such as 443 or 8000-8100", text));
        rule.ports.push_back(*range);
    }
    return rule;
}

json::value rule_to_json(const Rule& rule) {
    json::object object{{"action", spell(actions, rule.action)}, {"to", to_string(rule.to)}};
    if (rule.protocol != Protocol::any) object["protocol"] = spell(protocols, rule.protocol);
    if (!rule.ports.empty()) {
        json::array ports;
        for (const auto& range : rule.ports) ports.emplace_back(to_string(range));
        object["ports"] = std::move(ports);
    }
    return object;
}

bool matches_protocol(const Rule& rule, const Flow& flow) {
    const bool has_ports = flow.protocol == IPPROTO_TCP || flow.protocol == IPPROTO_UDP;
    switch (rule.protocol) {
        case Protocol::any:
            break;
        case Protocol::tcp:
            if (flow.protocol != IPPROTO_TCP) return false;
            break;
        case Protocol::udp:
            if (flow.protocol != IPPROTO_UDP) return false;
            break;
        case Protocol::icmp:
            return flow.protocol == IPPROTO_ICMP;
    }
    if (rule.ports.empty()) return true;
    return has_ports && std::any_of(rule.ports.begin(), rule.ports.end(), [&](const PortRange& range) {
               return range.first <= flow.port && flow.port <= range.last;
           });
}

bool contains(const Ipv4Network& network, Ipv4 address) {
    return Ipv4Network{address, network.prefix_length()}.canonical() == network;
}

}  // namespace

bool NamePattern::matches(std::string_view host) const noexcept {
    if (!below) return host == name;
    return host.size() > name.size() + 1 && host.ends_with(name) &&
           host[host.size() - name.size() - 1] == '.';
}

std::optional<NamePattern> parse_name_pattern(std::string_view text) {
    NamePattern pattern;
    if (text.starts_with("*.")) {
        pattern.below = true;
        text.remove_prefix(2);
    }
    if (text.ends_with('.')) text.remove_suffix(1);
    pattern.name = text;
    for (char& c : pattern.name)
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    if (!is_host_name(pattern.name)) return std::nullopt;
    return pattern;
}

std::string to_string(const NamePattern& pattern) {
    return (pattern.below ? "*." : "") + pattern.name;
}

std::string_view name_of(Mode mode) noexcept {
    return spell(modes, mode);
}

bool Policy::uses_names() const noexcept {
    return mode != Mode::none && std::any_of(rules.begin(), rules.end(), [](const Rule& rule) {
               return std::holds_alternative<NamePattern>(rule.to);
           });
}

Action Policy::decide(const Flow& flow, const IsLearned& is_learned) const {
    if (mode == Mode::none) return Action::deny;
    // A resolver of the guest's own choice: new queries are redirected to netd's.
    constexpr std::uint16_t domain_port = 53;
    if (uses_names() && flow.port == domain_port) return Action::deny;
    for (const auto& rule : rules) {
        if (!matches_protocol(rule, flow)) continue;
        const auto* network = std::get_if<Ipv4Network>(&rule.to);
        if (network != nullptr && !contains(*network, flow.destination)) continue;
        const auto* pattern = std::get_if<NamePattern>(&rule.to);
        if (pattern != nullptr && !is_learned(*pattern, flow.destination)) continue;
        return rule.action;
    }
    return mode == Mode::open ? Action::allow : Action::deny;
}

Action Policy::decide_name(std::string_view host) const {
    if (mode == Mode::none) return Action::deny;
    for (const auto& rule : rules) {
        const auto* pattern = std::get_if<NamePattern>(&rule.to);
        if (pattern != nullptr ? !pattern->matches(host) : !std::holds_alternative<AnyAddress>(rule.to))
            continue;
        if (rule.action == Action::allow) return Action::allow;
        // What is denied for some ports only may be allowed, and must be learned, for others.
        if (rule.ports.empty() && rule.protocol == Protocol::any) return Action::deny;
    }
    return mode == Mode::open ? Action::allow : Action::deny;
}

Result<Policy> Policy::from_json(const json::value& value) {
    Policy policy;
    std::string mode{name_of(policy.mode)};
    wire::FieldReader fields{value};
    refuse_others(fields, value, {"mode", "rules", "upload", "download"});
    fields.optional("mode", mode);
    fields.optional("upload", policy.upload);
    fields.optional("download", policy.download);
    const json::value* rules = fields.find("rules");
    if (rules != nullptr && !rules->is_array()) fields.must_be("rules", "an array");
    if (auto read = fields.done(); !read) return fail(std::move(read.error()));

    const auto parsed_mode = parse_spelling(modes, mode);
    if (!parsed_mode) return fail(Errc::invalid, "field 'mode' must be \"none\", \"egress\" or \"open\"");
    policy.mode = *parsed_mode;
    constexpr std::uint64_t slowest = 1024;
    constexpr std::uint64_t fastest = 4'000'000'000;  // the kernel's classic token bucket counts in 32 bits
    for (const std::uint64_t rate : {policy.upload, policy.download}) {
        if (rate != 0 && (rate < slowest || rate > fastest))
            return fail(Errc::invalid, fmt::format("rates are from {} to {} bytes per second, or 0 for none",
                                                   slowest, fastest));
    }
    if (rules == nullptr) return policy;
    if (rules->get_array().size() > max_rules)
        return fail(Errc::too_large, fmt::format("more than {} rules", max_rules));
    for (const json::value& each : rules->get_array()) {
        auto rule = parse_rule(each);
        if (!rule) return fail(std::move(rule.error()).at(fmt::format("rule {}", policy.rules.size() + 1)));
        policy.rules.push_back(std::move(*rule));
    }
    return policy;
}

json::value Policy::to_json() const {
    json::array array;
    for (const auto& rule : rules) array.push_back(rule_to_json(rule));
    return json::object{
        {"mode", name_of(mode)}, {"rules", std::move(array)}, {"upload", upload}, {"download", download}};
}

}  // namespace noid::net
