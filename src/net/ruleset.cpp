#include "net/ruleset.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace noid::net {

namespace {

// A packet that the policy table wants refused; the slot's own table refuses and counts it. Marks of a
// slot's namespace are seen nowhere else.
constexpr std::uint32_t denied_mark = 1;

std::string elements_of(const std::vector<Ipv4Network>& networks) {
    if (networks.empty()) return "";
    std::vector<std::string> texts;
    for (const auto& each : networks) texts.push_back(each.to_string());
    return fmt::format("elements = {{ {} }}", fmt::join(texts, ", "));
}

// The kernel refuses intervals of one set that overlap.
std::vector<PortRange> merged(std::vector<PortRange> ranges) {
    std::sort(ranges.begin(), ranges.end(), [](auto& a, auto& b) { return a.first < b.first; });
    std::vector<PortRange> result;
    for (const auto& range : ranges) {
        if (!result.empty() && range.first <= result.back().last + 1) {
            result.back().last = std::max(result.back().last, range.last);
        } else {
            result.push_back(range);
        }
    }
    return result;
}

std::string match_of(const Rule& rule, std::size_t number) {
    std::string match;
    if (const auto* network = std::get_if<Ipv4Network>(&rule.to)) {
        match += fmt::format("ip daddr {} ", network->to_string());
    } else if (std::holds_alternative<NamePattern>(rule.to)) {
        match += fmt::format("ip daddr @{} ", learned_set_name(number));
    }
    if (rule.protocol == Protocol::icmp) return match + "meta l4proto icmp ";
    const bool is_tcp = rule.protocol != Protocol::udp;
    const bool is_udp = rule.protocol != Protocol::tcp;
    if (rule.protocol != Protocol::any || !rule.ports.empty()) {
        match += fmt::format("meta l4proto {{ {}{}{} }} ", is_tcp ? "tcp" : "", is_tcp && is_udp ? ", " : "",
                             is_udp ? "udp" : "");
    }
    if (!rule.ports.empty()) {
        std::vector<std::string> ranges;
        for (const auto& range : merged(rule.ports))
            ranges.push_back(fmt::format("{}-{}", range.first, range.last));
        match += fmt::format("th dport {{ {} }} ", fmt::join(ranges, ", "));
    }
    return match;
}

std::string learned_set(std::size_t number, const NamePattern& pattern, const LearnedOf& learned) {
    auto addresses = learned(pattern);
    if (addresses.size() > max_learned) addresses.resize(max_learned);
    std::vector<std::string> elements;
    for (const auto& each : addresses)
        elements.push_back(fmt::format("{} timeout {}s", each.address.to_string(), each.remaining.count()));
    return fmt::format(R"(
    set {} {{
        type ipv4_addr
        flags timeout
        size {}
        {}
    }})",
                       learned_set_name(number), max_learned,
                       elements.empty() ? "" : fmt::format("elements = {{ {} }}", fmt::join(elements, ", ")));
}

// Takes the place of a table whether there is one or not.
std::string table_made_anew(const char* family, const char* table, Before before) {
    if (before == Before::nothing) return fmt::format("table {} {}", family, table);
    return fmt::format("table {0} {1}\ndelete table {0} {1}\ntable {0} {1}", family, table);
}

}  // namespace

std::string learned_set_name(std::size_t rule) {
    return fmt::format("learned{}", rule);
}

std::vector<Ipv4Network> blocked_networks(const Ipv4Network& pool, const std::vector<Ipv4Network>& more) {
    std::vector<Ipv4Network> blocked{pool, *parse_ipv4_network(inner::network)};
    // "This network", loopback, link-local with the clouds' metadata services, multicast and above.
    for (const char* reserved : {"0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"})
        blocked.push_back(*parse_ipv4_network(reserved));
    blocked.insert(blocked.end(), more.begin(), more.end());
    return blocked;
}

std::string slot_ruleset(const SlotRules& rules, Before before) {
    using fmt::arg;
    return fmt::format(
        R"(
{netdev_table} {{
    counter {forged} {{ }}
    chain from_guest {{
        type filter hook ingress device "{tap}" priority -300; policy drop;
        ether saddr {mac} ether type ip ip saddr {guest} accept
        ether saddr {mac} arp saddr ether {mac} arp saddr ip {{ {guest}, 0.0.0.0 }} accept
        counter name {forged}
    }}
}}
{ip_table} {{
    counter {sent} {{ }}
    counter {received} {{ }}
    counter {isolated} {{ }}
    counter {denied} {{ }}
    set blocked {{
        type ipv4_addr
        flags interval
        auto-merge
        {blocked}
    }}
    chain inwards {{
        type nat hook prerouting priority dstnat;
        iifname "{uplink}" ip daddr {outer} dnat to {guest}
    }}
    chain outwards {{
        type nat hook postrouting priority srcnat;
        oifname "{uplink}" ip saddr {guest} snat to {outer}
    }}
    chain forward {{
        type filter hook forward priority 10; policy drop;
        ct state invalid counter name {isolated} drop
        iifname "{tap}" ct direction original ip daddr @blocked counter name {isolated} drop
        meta mark {mark} counter name {denied} reject with icmp admin-prohibited
        iifname "{tap}" ct state new ct count over {connections} counter name {isolated} drop
        iifname "{tap}" oifname "{uplink}" counter name {sent} accept
        oifname "{tap}" ip saddr {host} ct state new,established ct direction original limit rate 1/second log group {knocks} snaplen 0
        oifname "{tap}" ct state established,related counter name {received} accept
        oifname "{tap}" ip saddr {host} counter name {received} accept
    }}
    chain input {{
        type filter hook input priority 10; policy drop;
        ct state established,related accept
        iifname "{tap}" ip daddr {gateway} meta l4proto {{ tcp, udp }} th dport 53 accept
        iifname "{tap}" ip daddr {gateway} icmp type echo-request limit rate 20/second accept
        iifname "{tap}" counter name {isolated}
    }}
}}
)",
        arg("netdev_table", table_made_anew("netdev", table_name, before)),
        arg("ip_table", table_made_anew("ip", table_name, before)), arg("forged", counter::forged),
        arg("sent", counter::sent), arg("received", counter::received), arg("isolated", counter::isolated),
        arg("denied", counter::denied), arg("tap", inner::tap), arg("uplink", inner::uplink),
        arg("gateway", inner::gateway), arg("guest", inner::guest), arg("mac", to_string(rules.guest_mac)),
        arg("host", rules.addresses.host.to_string()), arg("outer", rules.addresses.guest.to_string()),
        arg("blocked", elements_of(rules.blocked)), arg("connections", rules.max_connections),
        arg("mark", denied_mark), arg("knocks", knock_group));
}

std::string policy_ruleset(const Policy& policy, const LearnedOf& learned, Before before) {
    std::string sets;
    std::string rules;
    if (policy.mode == Mode::none) {
        rules += fmt::format("meta mark set {}\n", denied_mark);
    } else {
        rules += "ct state established,related accept\n";
        rules += fmt::format("        iifname != \"{}\" accept\n", inner::tap);
        for (std::size_t i = 0; i < policy.rules.size(); ++i) {
            const Rule& rule = policy.rules[i];
            if (const auto* pattern = std::get_if<NamePattern>(&rule.to))
                sets += learned_set(i, *pattern, learned);
            const auto verdict =
                rule.action == Action::allow ? "accept" : fmt::format("meta mark set {} accept", denied_mark);
            rules += fmt::format("        {}{}\n", match_of(rule, i), verdict);
        }
        if (policy.mode == Mode::egress) rules += fmt::format("        meta mark set {}\n", denied_mark);
    }
    // A name means the addresses of answers that netd has seen: no other resolver may answer.
    const std::string redirect = !policy.uses_names() ? ""
                                                      : fmt::format(R"(
    chain names {{
        type nat hook prerouting priority dstnat - 1;
        iifname "{}" meta l4proto {{ tcp, udp }} th dport 53 redirect
    }})",
                                                                    inner::tap);
    return fmt::format(
        R"(
{table} {{{sets}{redirect}
    chain forward {{
        type filter hook forward priority 0;
        {rules}
    }}
}}
)",
        fmt::arg("table", table_made_anew("ip", policy_table, before)), fmt::arg("sets", sets),
        fmt::arg("redirect", redirect), fmt::arg("rules", rules));
}

std::string host_ruleset(const HostRuleset& rules) {
    const auto leave =
        rules.uplink.empty() ? std::string{"drop"} : fmt::format("oifname != \"{}\" drop", rules.uplink);
    return fmt::format(
        R"(
table inet {table}
delete table inet {table}
table inet {table} {{
    set blocked {{
        type ipv4_addr
        flags interval
        auto-merge
        {blocked}
    }}
    chain input {{
        type filter hook input priority filter - 10;
        iifname != "{devices}*" accept
        ct state established,related accept
        drop
    }}
    chain forward {{
        type filter hook forward priority filter - 10;
        iifname "{devices}*" jump from_guest
        oifname "{devices}*" ct state established,related accept
        oifname "{devices}*" drop
    }}
    chain from_guest {{
        oifname "{devices}*" drop
        meta nfproto != ipv4 drop
        ip saddr != {pool} drop
        fib saddr . iif oif missing drop
        ip daddr @blocked drop
        {leave}
    }}
}}
)",
        fmt::arg("table", table_name), fmt::arg("blocked", elements_of(rules.blocked)),
        fmt::arg("devices", device_prefix), fmt::arg("pool", rules.pool.to_string()),
        fmt::arg("leave", leave));
}

std::string remove_host_ruleset() {
    return fmt::format("table inet {0}\ndelete table inet {0}\n", table_name);
}

}  // namespace noid::net
