#include <fmt/format.h>
#include <fmt/ranges.h>

#include <boost/json.hpp>
#include <utility>

#include "cli/commands/execute.hpp"
#include "cli/failure.hpp"
#include "cli/table.hpp"
#include "cli/vm_request.hpp"
#include "wire/network.hpp"

// What a VM may reach, and which of its ports can be reached.
namespace noid::cli {
namespace {

std::string rate_text(std::uint64_t bytes_per_second) {
    return bytes_per_second == 0 ? "not limited" : fmt::format("{} bytes/s", bytes_per_second);
}

std::string_view mode_text(wire::Network mode) {
    switch (mode) {
        case wire::Network::none:
            return "none (nothing passes)";
        case wire::Network::egress:
            return "egress (only what a rule allows)";
        case wire::Network::open:
            return "open (all but what a rule denies)";
    }
    return "";
}

void print_policy(const wire::NetworkPolicy& policy) {
    print_line(fmt::format("Mode:      {}", mode_text(policy.mode)));
    print_line(fmt::format("Upload:    {}", rate_text(policy.upload)));
    print_line(fmt::format("Download:  {}", rate_text(policy.download)));
    if (policy.rules.empty()) {
        print_line("No rules.");
        return;
    }
    Table table{{"action", "to", "protocol", "ports"}};
    for (const auto& rule : policy.rules) {
        table.add({rule.action == wire::NetworkRule::Action::deny ? "deny" : "allow", rule.to, rule.protocol,
                   rule.ports.empty() ? "all" : fmt::format("{}", fmt::join(rule.ports, ","))});
    }
    print(table.text());
}

// `policy` as the options want it.
Result<void> apply(const NetworkOptions& options, bool clear, wire::NetworkPolicy& policy) {
    if (auto mode = options.mode_or(policy.mode)) {
        policy.mode = *mode;
    } else {
        return fail(mode.error());
    }
    if (clear) policy.rules.clear();
    policy.rules.insert(policy.rules.end(), options.rules.begin(), options.rules.end());
    if (options.upload) policy.upload = *options.upload;
    if (options.download) policy.download = *options.download;
    return {};
}

// "Port 80 of VM 'web' is 8080 of HOST, and https://..."
std::string describe(const wire::ExposedPort& port, const VmOnServer& vm) {
    auto text = fmt::format("Port {} of VM '{}' is port {} of {}", port.guest, vm.name, port.host,
                            vm.client.account().server.host);
    if (port.url)
        text += fmt::format(", and {} {}", printable(*port.url), port.is_public ? "for all" : "with a token");
    return text;
}

}  // namespace

Awaitable<Result<int>> execute(const Context& context, Policy command) {
    auto vm = find_vm(context, command.vm);
    if (!vm) co_return fail(vm.error());
    auto policy = co_await ask<wire::NetworkPolicy>(
        *vm, HttpRequest{HttpMethod::get, vm->target + "/network"}, "policy");
    if (!policy) co_return fail(policy.error());
    if (command.options.any() || command.clear) {
        if (auto applied = apply(command.options, command.clear, policy->value); !applied)
            co_return fail(applied.error());
        HttpRequest request{HttpMethod::put, vm->target + "/network",
                            boost::json::serialize(wire::to_json(policy->value))};
        policy = co_await ask<wire::NetworkPolicy>(*vm, std::move(request), "policy");
        if (!policy) co_return fail(policy.error());
    }
    if (context.json) {
        print_line(boost::json::serialize(policy->json));
    } else {
        print_policy(policy->value);
    }
    co_return 0;
}

Awaitable<Result<int>> execute(const Context& context, Expose command) {
    auto vm = find_vm(context, command.vm);
    if (!vm) co_return fail(vm.error());
    wire::ExposePort body;
    body.guest = command.port;
    body.host = command.host;
    body.is_public = command.is_public;
    HttpRequest request{HttpMethod::post, vm->target + "/ports", boost::json::serialize(wire::to_json(body))};
    auto port = co_await ask<wire::ExposedPort>(*vm, std::move(request), "port");
    if (!port) co_return fail(port.error());
    print_line(context.json ? boost::json::serialize(port->json) : describe(port->value, *vm));
    co_return 0;
}

Awaitable<Result<int>> execute(const Context& context, Unexpose command) {
    auto vm = find_vm(context, command.vm);
    if (!vm) co_return fail(vm.error());
    const auto target = fmt::format("{}/ports/{}", vm->target, command.port);
    auto answer = co_await vm->client.call(HttpRequest{HttpMethod::delete_, target});
    if (!answer) co_return fail(answer.error());
    if (context.json) {
        print_line(boost::json::serialize(boost::json::object{{"vm", vm->name}, {"guest", command.port}}));
    } else {
        print_line(fmt::format("Port {} of VM '{}' is no longer exposed", command.port, vm->name));
    }
    co_return 0;
}

Awaitable<Result<int>> execute(const Context& context, Ports command) {
    auto vm = find_vm(context, command.vm);
    if (!vm) co_return fail(vm.error());
    auto ports = co_await ask_list<wire::ExposedPort>(
        *vm, HttpRequest{HttpMethod::get, vm->target + "/ports"}, "port list");
    if (!ports) co_return fail(ports.error());
    if (context.json) {
        print_line(boost::json::serialize(ports->json));
        co_return 0;
    }
    if (ports->value.empty()) {
        print_line(fmt::format("No ports of VM '{}' are exposed.", vm->name));
        co_return 0;
    }
    Table table{{"guest", "host", "url", "access"}};
    for (const auto& port : ports->value) {
        table.add({std::to_string(port.guest), std::to_string(port.host), port.url.value_or("-"),
                   port.is_public ? "public" : "token"});
    }
    print(table.text());
    for (const auto& port : ports->value) {
        if (port.obstacle)
            print_notice(fmt::format("warning: nobody listens for port {} now: {}; the server tries again",
                                     port.guest, printable(*port.obstacle)));
    }
    co_return 0;
}

}  // namespace noid::cli
