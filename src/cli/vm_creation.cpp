#include "cli/vm_creation.hpp"

#include <fmt/format.h>

#include <boost/json/serialize.hpp>

#include "base/random.hpp"
#include "cli/failure.hpp"
#include "cli/progress.hpp"
#include "wire/names.hpp"

namespace noid::cli {
namespace {

using namespace std::chrono_literals;

// Longer than a server waits for a guest that boots slowly.
constexpr auto creation_limit = 180'000ms;

}  // namespace

Result<std::map<std::string, std::string>> parse_labels(const std::vector<std::string>& labels) {
    std::map<std::string, std::string> parsed;
    for (const auto& label : labels) {
        const auto equals = label.find('=');
        if (equals == std::string::npos || equals == 0)
            return fail(Errc::invalid, fmt::format("invalid label (expected KEY=VALUE): {}", label));
        parsed[label.substr(0, equals)] = label.substr(equals + 1);
    }
    return parsed;
}

Result<wire::Network> NetworkOptions::mode_or(wire::Network otherwise) const {
    if (mode.empty()) return otherwise;
    if (const auto known = wire::parse_network(mode)) return *known;
    return fail(Errc::invalid,
                fmt::format("unknown network '{}' (expected none, isolated, egress, open)", mode));
}

Result<wire::CreateVm> creation_request(std::string name, const VmShape& shape) {
    wire::CreateVm request;
    request.name = std::move(name);
    request.cpus = shape.cpus;
    request.mem_mib = shape.mem_mib;
    if (shape.disk_mib) request.disk_mib = *shape.disk_mib;
    request.env = shape.env;
    request.image = shape.image;
    // The name first: it is what the original's users know to be checked.
    if (auto valid = wire::check_vm_name(request.name); !valid) return fail(valid.error());
    auto labels = parse_labels(shape.labels);
    if (!labels) return fail(labels.error());
    request.labels = std::move(*labels);
    auto network = shape.network.mode_or(request.network);
    if (!network) return fail(network.error());
    request.network = *network;
    if (shape.network.has_more_than_mode()) {
        request.policy = wire::NetworkPolicy{.mode = *network,
                                             .rules = shape.network.rules,
                                             .upload = shape.network.upload.value_or(0),
                                             .download = shape.network.download.value_or(0)};
    }
    request.disk_bytes_per_second = shape.disk_bandwidth;
    request.disk_ops_per_second = shape.disk_iops;
    request.boot = shape.boot;
    for (const auto& text : shape.ports) {
        auto port = wire::PortMapping::parse(text);
        if (!port) return fail(port.error());
        request.ports.push_back(*port);
    }
    if (auto valid = request.check(); !valid) return fail(valid.error());
    return request;
}

Awaitable<Result<CreatedVm>> create_vm(const Context& context, const ApiClient& client,
                                       wire::CreateVm request) {
    const Spinner spinner{context.executor, fmt::format("Creating VM '{}'", request.name),
                          can_draw_progress(context.json)};
    const auto key = random_hex(16);
    const auto ask = [&] {
        HttpRequest http{HttpMethod::post, "/v1/vms", boost::json::serialize(wire::to_json(request))};
        http.headers.emplace_back("Idempotency-Key", key);
        http.read_timeout = creation_limit;
        return client.call_json(std::move(http), "VM");
    };
    auto answer = co_await ask();
    const bool broke = !answer && answer.error().code == Errc::unavailable &&
                       answer.error().what.starts_with("connection error: the server closed");
    if (broke) answer = co_await ask();
    if (!answer) co_return fail(answer.error());
    auto info = read_answer<wire::VmInfo>(*answer, "VM");
    if (!info) co_return fail(info.error());
    for (const auto& warning : info->warnings) print_notice("warning: " + printable(warning));
    co_return CreatedVm{std::move(*answer), std::move(*info)};
}

}  // namespace noid::cli
