#include "net/diagnosis.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/netfilter.h>
#include <net/if.h>

#include <array>

#include "base/file.hpp"
#include "net/host_rules.hpp"
#include "net/links.hpp"
#include "net/netns.hpp"
#include "net/nftables.hpp"

namespace noid::net {

namespace {

Finding good(std::string subject, std::string found) {
    return {std::move(subject), Verdict::ok, std::move(found), {}};
}
Finding warning(std::string subject, std::string found, std::string advice) {
    return {std::move(subject), Verdict::warning, std::move(found), std::move(advice)};
}
Finding failure(std::string subject, std::string found, std::string advice) {
    return {std::move(subject), Verdict::failure, std::move(found), std::move(advice)};
}

Finding check_uplink(const NetdConfig& config, NetlinkSocket& route) {
    const auto uplink = find_uplink(route, config.uplink);
    if (!uplink) return failure("uplink", uplink.error().what, "run as root");
    if (*uplink) return good("uplink", fmt::format("{} (MTU {})", (*uplink)->name, (*uplink)->mtu));
    if (!config.uplink.empty())
        return failure("uplink", "there is no device " + config.uplink, "correct 'uplink' in netd.toml");
    return failure("uplink", "the host has no IPv4 default route: guests reach nothing",
                   "connect the host, or name the device with 'uplink' in netd.toml");
}

Finding check_forwarding() {
    const auto value = read_sysctl("ipv4/ip_forward");
    if (value && *value == "1") return good("forwarding", "IPv4 forwarding is on");
    return failure("forwarding", "IPv4 forwarding is off: guests reach nothing",
                   "set_ip_forward = true in netd.toml, or sysctl -w net.ipv4.ip_forward=1");
}

Finding check_tun() {
    if (auto device = open_file("/dev/net/tun", O_RDWR); !device)
        return failure("tun", device.error().what, "modprobe tun");
    return good("tun", "/dev/net/tun can be opened");
}

Finding check_pool(const NetdConfig& config, NetlinkSocket& route) {
    const auto routes = list_routes(route);
    if (!routes) return failure("pool", routes.error().what, "run as root");
    for (const auto& each : *routes) {
        std::array<char, IF_NAMESIZE> name{};
        ::if_indextoname(static_cast<unsigned>(each.device), name.data());
        if (!overlap(each.destination, config.pool) ||
            std::string_view{name.data()}.starts_with(device_prefix))
            continue;
        return warning("pool",
                       fmt::format("{} overlaps with {} at {}", config.pool.to_string(),
                                   each.destination.to_string(), name.data()),
                       "choose another 'pool' in netd.toml");
    }
    return good("pool", config.pool.to_string());
}

Finding check_resolvers(const NetdConfig& config) {
    DnsServers servers{config.dns};
    std::string list;
    for (const auto& each : servers.get()) list += (list.empty() ? "" : ", ") + each.to_string();
    if (!list.empty()) return good("resolvers", list);
    return failure("resolvers", "none: guests cannot resolve names", "name some with 'dns' in netd.toml");
}

// Another firewall's base chains can refuse what ours accept: in nftables every chain has to agree.
Finding check_other_firewalls(NetlinkSocket& netfilter) {
    const auto firewalld = has_table(netfilter, NFPROTO_INET, "firewalld");
    if (!firewalld) return failure("firewalls", firewalld.error().what, "run as root");
    if (*firewalld) {
        return warning(
            "firewalls", "firewalld is active and may refuse guests' traffic",
            "firewall-cmd --permanent --zone=trusted --add-interface=noid+ && firewall-cmd --reload");
    }
    return good("firewalls", "none that is known to refuse guests' traffic");
}

}  // namespace

std::vector<Finding> diagnose_host(const NetdConfig& config, NetlinkSocket& route, NetlinkSocket& netfilter) {
    return {check_uplink(config, route), check_forwarding(),      check_tun(),
            check_pool(config, route),   check_resolvers(config), check_other_firewalls(netfilter)};
}

std::vector<Finding> diagnose_daemon(const HostRuleset& rules, const SlotPool::Counts& counts,
                                     NetlinkSocket& netfilter) {
    std::vector<Finding> findings;
    const auto isolation = has_table(netfilter, NFPROTO_INET, table_name);
    findings.push_back(isolation && *isolation
                           ? good("isolation", fmt::format("nftables table inet {} is in place", table_name))
                           : failure("isolation",
                                     fmt::format("nftables table inet {} is missing", table_name),
                                     "restart noid-netd"));
    const auto missing = HostRules::missing(rules);
    if (!missing) {
        findings.push_back(failure("iptables", missing.error().what, "install iptables"));
    } else if (missing->empty()) {
        findings.push_back(good("iptables", "masquerading and forwarding rules are in place"));
    } else {
        findings.push_back(failure(
            "iptables",
            fmt::format("{} rule(s) missing, first: {} -A {} {}", missing->size(), missing->front().table,
                        missing->front().chain, missing->front().match_and_target),
            "somebody removed them; restart noid-netd"));
    }
    const auto found = fmt::format("{} of {} in use ({} by suspended VMs), {} ready",
                                   counts.leased + counts.plain, counts.total, counts.asleep, counts.ready);
    findings.push_back(counts.leased + counts.plain < counts.total
                           ? good("slots", found)
                           : warning("slots", found, "no VM can be made; use a larger 'pool' in netd.toml"));
    return findings;
}

}  // namespace noid::net
