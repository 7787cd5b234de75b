#include <fmt/format.h>

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/monotonic_resource.hpp>
#include <boost/json/serialize.hpp>
#include <charconv>
#include <chrono>

#include "api/endpoint_input.hpp"
#include "api/endpoints.hpp"
#include "api/vm_answer.hpp"
#include "wire/names.hpp"
#include "wire/utf8.hpp"
#include "wire/vm.hpp"

namespace noid::api {

namespace {

constexpr std::uint64_t max_page = 1000;

vm::NetworkMode to_vm(wire::Network network) noexcept {
    switch (network) {
        case wire::Network::none:
            return vm::NetworkMode::none;
        case wire::Network::egress:
            return vm::NetworkMode::egress;
        case wire::Network::open:
            return vm::NetworkMode::open;
    }
    return vm::NetworkMode::open;
}

std::vector<vm::PublishedPort> published_ports(const wire::CreateVm& request) {
    std::vector<vm::PublishedPort> ports;
    for (const wire::PortMapping& port : request.ports) ports.push_back({port.guest, port.host, false});
    return ports;
}

// The filters and the page that a list asks for.
struct ListQuery {
    std::vector<std::pair<std::string, std::string>> labels;
    std::optional<std::string_view> state;
    std::string_view prefix;
    std::size_t limit = 0;  // 0: all
    // The page begins behind this VM; it need not exist any more.
    std::optional<std::pair<std::int64_t, std::string>> after;

    [[nodiscard]] static Result<ListQuery> parse(const Target& target);
    [[nodiscard]] bool takes(const vm::VmView& view) const;
};

// "<created>.<name>": opaque to clients, good for any VM that ever was.
Result<std::pair<std::int64_t, std::string>> parse_cursor(std::string_view text) {
    const std::size_t dot = text.find('.');
    std::int64_t created = 0;
    const std::string_view number = text.substr(0, dot);
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), created);
    if (dot == std::string_view::npos || error != std::errc{} || end != number.data() + number.size() ||
        !wire::check_vm_name(text.substr(dot + 1)))
        return fail(Errc::invalid, "parameter 'cursor' is not one that this server gave");
    return std::pair{created, std::string{text.substr(dot + 1)}};
}

Result<ListQuery> ListQuery::parse(const Target& target) {
    ListQuery query;
    for (const auto& [key, value] : target.query) {
        if (key != "label") continue;
        const std::size_t equals = value.find('=');
        if (equals == std::string::npos || equals == 0)
            return fail(Errc::invalid, "parameter 'label' must be KEY=VALUE");
        query.labels.emplace_back(value.substr(0, equals), value.substr(equals + 1));
    }
    query.state = target.find("state");
    if (query.state && !vm::parse_state(*query.state))
        return fail(Errc::invalid, "parameter 'state' is not a state: " + wire::clipped(*query.state, 32));
    query.prefix = target.find("prefix").value_or("");
    const auto limit = number_parameter(target, "limit", 1, max_page);
    if (!limit) return fail(limit.error());
    query.limit = static_cast<std::size_t>(limit->value_or(0));
    if (const auto cursor = target.find("cursor")) {
        auto after = parse_cursor(*cursor);
        if (!after) return fail(std::move(after).error());
        query.after = std::move(*after);
    }
    return query;
}

bool ListQuery::takes(const vm::VmView& view) const {
    if (state && vm::name_of(view.state) != *state) return false;
    if (!view.name.starts_with(prefix)) return false;
    for (const auto& [key, value] : labels) {
        const auto found = view.labels.find(key);
        if (found == view.labels.end() || found->second != value) return false;
    }
    return true;
}

// Behind which a page begins: VMs are listed by creation, those of one second by name.
std::pair<std::int64_t, std::string_view> position(const vm::VmView& view) {
    return {view.created_unix, view.name};
}

using StateChange = Awaitable<Result<void>> (*)(vm::Vm&, const Target&);

Awaitable<Result<Response>> change_state(Call& call, StateChange change) {
    const auto machine = find_vm(call);
    if (!machine) co_return fail(machine.error());
    if (auto changed = co_await change(**machine, call.target); !changed)
        co_return fail(std::move(changed).error());
    co_return vm_response((*machine)->view());
}

// What a create says about the network: a whole policy, or its mode alone. Both speak noid-netd's JSON.
Result<vm::NetworkSettings> network_settings(const wire::CreateVm& request) {
    if (!request.policy) return vm::NetworkSettings{.mode = to_vm(request.network)};
    auto settings = vm::NetworkSettings::from_json(wire::to_json(*request.policy));
    if (!settings) return fail(std::move(settings).error().at("policy"));
    return settings;
}

}  // namespace

namespace {

using Reservations = std::vector<std::unique_ptr<ingress::HostPorts::Reservation>>;

// Binds the host's ports of a create, so that one that is in use is known before a VM is made for it.
Awaitable<Result<Reservations>> reserve_ports(const Call& call, const wire::CreateVm& request) {
    Reservations reservations;
    for (const wire::PortMapping& port : request.ports) {
        auto reserved = co_await call.services.host_ports->reserve(port.host);
        if (reserved) {
            reservations.push_back(std::move(*reserved));
            continue;
        }
        // Of a request that is sent again its own VM has the port; of any other the engine refuses it.
        const auto published = call.services.engine.ports().all();
        const bool ours = std::any_of(published.begin(), published.end(), [&](const auto& publication) {
            return publication.port.host == port.host;
        });
        if (request.idempotency_key.empty() || !ours) co_return fail(std::move(reserved).error());
    }
    co_return reservations;
}

}  // namespace

Awaitable<Result<Response>> create_vm(Call& call) {
    auto request = read_json<wire::CreateVm>(call);
    if (!request) co_return fail(std::move(request).error());
    if (const auto key = call.exchange.header("Idempotency-Key"); !key.empty()) {
        if (!request->idempotency_key.empty() && request->idempotency_key != key)
            co_return fail(Errc::invalid, "Idempotency-Key and 'idempotency_key' contradict each other");
        request->idempotency_key = key;
    }
    if (auto checked = request->check(); !checked) co_return fail(std::move(checked).error());
    auto name = vm::VmName::parse(request->name);
    if (!name) co_return fail(std::move(name).error());
    auto network = network_settings(*request);
    if (!network) co_return fail(std::move(network).error());
    vm::CreateRequest create{.name = std::move(*name),
                             .cpus = request->cpus,
                             .memory = MiB{request->mem_mib},
                             .disk = {},
                             .labels = std::move(request->labels),
                             .env = std::move(request->env),
                             .image = std::move(request->image),
                             .network = std::move(*network),
                             .ports = published_ports(*request),
                             .resources = {},
                             .boot = request->boot,
                             .idempotency_key = std::move(request->idempotency_key)};
    if (request->disk_mib) create.disk = MiB{*request->disk_mib};
    create.resources.disk_bytes_per_second = request->disk_bytes_per_second;
    create.resources.disk_operations_per_second = request->disk_ops_per_second;
    const auto reservations = co_await reserve_ports(call, *request);
    if (!reservations) co_return fail(reservations.error());
    const auto began = std::chrono::steady_clock::now();
    auto created = co_await call.tenant->create(std::move(create));
    if (!created) co_return fail(std::move(created).error());
    if (!created->replayed) call.services.metrics.count_creation(std::chrono::steady_clock::now() - began);
    Response response = vm_response(std::move(created->vm), 201);
    if (created->replayed) response.headers.emplace_back("Idempotent-Replayed", "true");
    co_return response;
}

namespace {

Result<Response> list_matching(Call& call) {
    const auto query = ListQuery::parse(call.target);
    if (!query) return fail(query.error());
    std::vector<vm::VmView> views = call.tenant->list();
    const bool paged = query->limit > 0 || query->after;
    if (paged) {
        std::sort(views.begin(), views.end(),
                  [](const vm::VmView& a, const vm::VmView& b) { return position(a) < position(b); });
    }
    boost::json::monotonic_resource memory;
    boost::json::array list(&memory);
    std::string next;
    const vm::VmView* last = nullptr;
    for (vm::VmView& view : views) {
        if (query->after && position(view) <= std::pair<std::int64_t, std::string_view>{*query->after})
            continue;
        if (!query->takes(view)) continue;
        if (query->limit > 0 && list.size() == query->limit) {
            next = std::to_string(last->created_unix) + "." + std::string{list.back().at("name").as_string()};
            break;
        }
        last = &view;
        list.emplace_back(wire::to_json(to_wire(std::move(view)), &memory));
    }
    Response response = Response::json(boost::json::serialize(list));
    if (!next.empty()) {
        response.headers.emplace_back("X-Next-Cursor", next);
        response.headers.emplace_back(
            "Link", "</v1/vms?limit=" + std::to_string(query->limit) + "&cursor=" + next + ">; rel=\"next\"");
    }
    return response;
}

}  // namespace

Result<Response> list_vms(Call& call) {
    if (!call.target.query.empty()) return list_matching(call);
    // The revision is read first: a change after that makes the answer kept here be missed, not wrong.
    const ListCache::Version version{call.tenant->revision(), unix_now()};
    if (const auto body = call.services.lists.find(call.tenant->user_id(), version))
        return Response::json(*body);
    auto response = list_matching(call);
    if (response) call.services.lists.keep(call.tenant->user_id(), version, response->body);
    return response;
}

Awaitable<Result<Response>> get_vm(Call& call) {
    const auto machine = find_vm(call);
    if (!machine) co_return fail(machine.error());
    auto view = co_await (*machine)->details();
    if (!view) co_return fail(std::move(view).error());
    for (const vm::PublishedPort& port : view->ports) {
        if (const auto obstacle = call.services.host_ports->obstacle(port.host))
            view->warnings.push_back(fmt::format("nobody listens for port {} now: {}; the server tries again",
                                                 port.guest, *obstacle));
    }
    co_return vm_response(std::move(*view));
}

Awaitable<Result<Response>> change_vm(Call& call) {
    const auto machine = find_vm(call);
    if (!machine) co_return fail(machine.error());
    const auto request = read_json<wire::ChangeVm>(call);
    if (!request) co_return fail(request.error());
    vm::ResourceChange change;
    if (request->balloon_mib) change.balloon = MiB{*request->balloon_mib};
    change.disk_bytes_per_second = request->disk_bytes_per_second;
    change.disk_operations_per_second = request->disk_ops_per_second;
    if (auto set = co_await (*machine)->set_resources(change); !set) co_return fail(std::move(set).error());
    co_return vm_response((*machine)->view());
}

Awaitable<Result<Response>> delete_vm(Call& call) {
    const auto name = vm_name(call);
    if (!name) co_return fail(name.error());
    // Also 204 when there was none: clients rely on it.
    if (auto destroyed = co_await call.tenant->destroy(*name); !destroyed)
        co_return fail(std::move(destroyed).error());
    co_await call.services.host_ports->caught_up();
    co_return Response::no_content();
}

Awaitable<Result<Response>> start_vm(Call& call) {
    return change_state(call, [](vm::Vm& machine, const Target&) { return machine.start(); });
}

Awaitable<Result<Response>> stop_vm(Call& call) {
    return change_state(call, [](vm::Vm& machine, const Target& target) -> Awaitable<Result<void>> {
        const auto force = flag_parameter(target, "force");
        if (!force) co_return fail(force.error());
        co_return co_await machine.stop(*force ? vm::StopMode::force : vm::StopMode::graceful);
    });
}

Awaitable<Result<Response>> pause_vm(Call& call) {
    return change_state(call, [](vm::Vm& machine, const Target&) { return machine.pause(); });
}

Awaitable<Result<Response>> resume_vm(Call& call) {
    return change_state(call, [](vm::Vm& machine, const Target&) { return machine.resume(); });
}

Awaitable<Result<Response>> suspend_vm(Call& call) {
    return change_state(call, [](vm::Vm& machine, const Target&) { return machine.suspend(); });
}

}  // namespace noid::api
