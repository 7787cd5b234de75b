#include "wire/network.hpp"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <utility>

#include "wire/names.hpp"

namespace noid::wire {

namespace {

// Members that nobody knows would be rules that nobody keeps.
void refuse_unknown(FieldReader& fields, const json::value& value,
                    std::initializer_list<std::string_view> known) {
    if (!value.is_object()) return;
    for (const auto& member : value.get_object()) {
        if (std::ranges::find(known, std::string_view{member.key()}) == known.end())
            fields.wrong("field '" + clipped(member.key()) + "' is unknown");
    }
}

std::string_view name_of(NetworkRule::Action action) noexcept {
    return action == NetworkRule::Action::deny ? "deny" : "allow";
}

void check_port(FieldReader& fields, std::string_view key, std::uint16_t port) {
    if (port == 0) fields.must_be(key, "from 1 to 65535");
}

}  // namespace

std::optional<Network> parse_network(std::string_view text) noexcept {
    if (text == "open") return Network::open;
    if (text == "egress") return Network::egress;
    if (text == "none" || text == "isolated") return Network::none;
    return std::nullopt;
}

std::string_view name_of(Network network) noexcept {
    switch (network) {
        case Network::none:
            return "none";
        case Network::egress:
            return "egress";
        case Network::open:
            return "open";
    }
    return "open";
}

Result<NetworkRule> NetworkRule::from_json(const json::value& value) {
    constexpr std::array protocols{"any", "tcp", "udp", "icmp"};
    NetworkRule rule;
    FieldReader fields{value};
    refuse_unknown(fields, value, {"action", "to", "protocol", "ports"});
    std::string action;
    fields.required("action", action);
    if (action == "deny") {
        rule.action = Action::deny;
    } else if (action != "allow") {
        fields.must_be("action", "\"allow\" or \"deny\"");
    }
    fields.required("to", rule.to);
    fields.optional("protocol", rule.protocol);
    if (std::ranges::find(protocols, rule.protocol) == protocols.end())
        fields.must_be("protocol", "\"any\", \"tcp\", \"udp\" or \"icmp\"");
    fields.optional("ports", rule.ports);
    if (auto read = fields.done(); !read) return fail(std::move(read).error());
    return rule;
}

json::object to_json(const NetworkRule& rule) {
    json::object out;
    out.emplace("action", name_of(rule.action));
    out.emplace("to", rule.to);
    if (rule.protocol != "any") out.emplace("protocol", rule.protocol);
    if (!rule.ports.empty()) out.emplace("ports", to_json(rule.ports));
    return out;
}

Result<NetworkPolicy> NetworkPolicy::from_json(const json::value& value) {
    NetworkPolicy policy;
    FieldReader fields{value};
    refuse_unknown(fields, value, {"mode", "rules", "upload", "download"});
    std::string mode{wire::name_of(policy.mode)};
    fields.optional("mode", mode);
    if (const auto known = parse_network(mode)) {
        policy.mode = *known;
    } else {
        fields.must_be("mode", "\"none\", \"egress\" or \"open\"");
    }
    fields.optional("upload", policy.upload);
    fields.optional("download", policy.download);
    if (const json::value* rules = fields.find("rules")) {
        auto parsed = parse_array<NetworkRule>(*rules);
        if (parsed) {
            policy.rules = std::move(*parsed);
        } else {
            fields.wrong("field 'rules': " + parsed.error().what);
        }
    }
    if (auto read = fields.done(); !read) return fail(std::move(read).error());
    return policy;
}

json::object to_json(const NetworkPolicy& policy) {
    json::array rules;
    for (const NetworkRule& rule : policy.rules) rules.push_back(to_json(rule));
    json::object out;
    out.emplace("mode", name_of(policy.mode));
    out.emplace("rules", std::move(rules));
    out.emplace("upload", policy.upload);
    out.emplace("download", policy.download);
    return out;
}

Result<ExposePort> ExposePort::from_json(const json::value& value) {
    ExposePort request;
    FieldReader fields{value};
    fields.required("guest", request.guest);
    check_port(fields, "guest", request.guest);
    fields.optional("host", request.host);
    if (request.host) check_port(fields, "host", *request.host);
    fields.optional("public", request.is_public);
    if (auto read = fields.done(); !read) return fail(std::move(read).error());
    return request;
}

json::object to_json(const ExposePort& request) {
    json::object out;
    out.emplace("guest", request.guest);
    if (request.host) out.emplace("host", *request.host);
    if (request.is_public) out.emplace("public", true);
    return out;
}

Result<ExposedPort> ExposedPort::from_json(const json::value& value) {
    ExposedPort port;
    FieldReader fields{value};
    fields.required("guest", port.guest);
    fields.required("host", port.host);
    fields.optional("url", port.url);
    fields.optional("public", port.is_public);
    fields.optional("obstacle", port.obstacle);
    if (auto read = fields.done(); !read) return fail(std::move(read).error());
    return port;
}

json::object to_json(const ExposedPort& port) {
    json::object out;
    out.emplace("guest", port.guest);
    out.emplace("host", port.host);
    if (port.url) {
        out.emplace("url", *port.url);
    } else {
        out.emplace("url", nullptr);
    }
    out.emplace("public", port.is_public);
    if (port.obstacle) out.emplace("obstacle", *port.obstacle);
    return out;
}

Result<NetworkTraffic> NetworkTraffic::from_json(const json::value& value) {
    NetworkTraffic traffic;
    FieldReader fields{value};
    fields.optional("sent_bytes", traffic.sent_bytes);
    fields.optional("sent_packets", traffic.sent_packets);
    fields.optional("received_bytes", traffic.received_bytes);
    fields.optional("received_packets", traffic.received_packets);
    fields.optional("dropped_packets", traffic.dropped_packets);
    fields.optional("denied_packets", traffic.denied_packets);
    fields.optional("connections", traffic.connections);
    if (auto read = fields.done(); !read) return fail(std::move(read).error());
    return traffic;
}

json::object to_json(const NetworkTraffic& traffic) {
    json::object out;
    out.emplace("sent_bytes", traffic.sent_bytes);
    out.emplace("sent_packets", traffic.sent_packets);
    out.emplace("received_bytes", traffic.received_bytes);
    out.emplace("received_packets", traffic.received_packets);
    out.emplace("dropped_packets", traffic.dropped_packets);
    out.emplace("denied_packets", traffic.denied_packets);
    out.emplace("connections", traffic.connections);
    return out;
}

}  // namespace noid::wire
