#include <fmt/format.h>
#include <linux/netlink.h>

#include <boost/asio/io_context.hpp>
#include <cstdio>
#include <exception>
#include <optional>
#include <vector>

#include "base/async.hpp"
#include "commands.hpp"
#include "net/daemon.hpp"
#include "net/diagnosis.hpp"
#include "net/netlink.hpp"
#include "netclient/client.hpp"

namespace noid::netd {
namespace {

// Runs one question to the daemon to its end.
template <class T>
Result<T> wait_for(Awaitable<Result<T>> question) {
    asio::io_context loop{1};
    std::optional<Result<T>> answer;
    asio::co_spawn(loop, std::move(question), [&](std::exception_ptr thrown, Result<T> result) {
        if (thrown) std::rethrow_exception(thrown);
        answer = std::move(result);
    });
    loop.run();
    return std::move(*answer);
}

int print_error(const Error& error) {
    fmt::print(stderr, "Error: {}\n", error.full());
    return 1;
}

std::string spell_traffic(const net::Traffic& traffic) {
    return fmt::format("{} B / {}", traffic.bytes, traffic.packets);
}

const char* mark_of(net::Verdict verdict) {
    switch (verdict) {
        case net::Verdict::ok:
            return "ok  ";
        case net::Verdict::warning:
            return "warn";
        case net::Verdict::failure:
            return "FAIL";
    }
    return "FAIL";
}

Result<std::vector<net::Finding>> findings_without_daemon(const net::NetdConfig& config,
                                                          const Error& reason) {
    auto route = net::NetlinkSocket::open(NETLINK_ROUTE);
    if (!route) return fail(std::move(route.error()));
    auto netfilter = net::NetlinkSocket::open(NETLINK_NETFILTER);
    if (!netfilter) return fail(std::move(netfilter.error()));
    auto findings = net::diagnose_host(config, *route, *netfilter);
    findings.insert(findings.begin(),
                    {"daemon", net::Verdict::failure, reason.what, "systemctl start noid-netd"});
    return findings;
}

}  // namespace

int show_status(const net::NetdConfig& config) {
    const netclient::Client client{config.socket};
    const auto stats = wait_for(client.stats());
    if (!stats) return print_error(stats.error());
    constexpr const char* row = "{:<10} {:<16} {:<7} {:>20} {:>20} {:>8} {:>8} {:>6}  {}\n";
    fmt::print(row, "SLOT", "ADDRESS", "MODE", "SENT", "RECEIVED", "DROPPED", "DENIED", "CONNS", "VM");
    for (const auto& vm : *stats) {
        fmt::print(row, fmt::format("{}{}", net::device_prefix, vm.index), vm.guest_ip.to_string(),
                   name_of(vm.mode), spell_traffic(vm.sent), spell_traffic(vm.received),
                   vm.forged.packets + vm.isolated.packets, vm.denied.packets, vm.connections, vm.vm);
    }
    return 0;
}

int diagnose(const net::NetdConfig& config) {
    const netclient::Client client{config.socket};
    auto findings = wait_for(client.doctor());
    if (!findings) findings = findings_without_daemon(config, findings.error());
    if (!findings) return print_error(findings.error());
    bool failed = false;
    for (const auto& finding : *findings) {
        fmt::print("{}  {:<12} {}\n", mark_of(finding.verdict), finding.subject, finding.found);
        if (!finding.advice.empty()) fmt::print("      {:<12} -> {}\n", "", finding.advice);
        failed |= finding.verdict == net::Verdict::failure;
    }
    return failed ? 1 : 0;
}

int clean_up(const net::NetdConfig& config) {
    const auto removed = net::clean_up(config);
    if (!removed) return print_error(removed.error());
    for (const auto& name : *removed) fmt::print("removed {}\n", name);
    return 0;
}

}  // namespace noid::netd
