#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/monotonic_resource.hpp>
#include <charconv>
#include <optional>
#include <string>

#include "api/endpoint_input.hpp"
#include "api/endpoints.hpp"
#include "api/visitor.hpp"
#include "ingress/host_name.hpp"
#include "wire/network.hpp"

namespace noid::api {

namespace {

std::optional<std::string> label_of(const Call& call, std::uint16_t guest) {
    return ingress::to_label({guest, std::string{call.parameter("name")}, call.tenant->user_name()});
}

// Where the port is by name; nullopt without a domain, or when its name is too long for one.
std::optional<std::string> url_of(const Call& call, std::uint16_t guest) {
    const config::ServerConfig& config = call.services.config;
    const auto label = label_of(call, guest);
    if (config.server.domain.empty() || !label) return std::nullopt;
    const std::string host = *label + "." + config.server.domain;
    if (config.ingress.https) return "https://" + host + "/";
    const std::string port = config.server.listen.substr(config.server.listen.rfind(':'));
    return "http://" + host + (port == ":80" ? "" : port) + "/";
}

wire::ExposedPort to_wire(const Call& call, const vm::PublishedPort& port) {
    return wire::ExposedPort{port.guest, port.host, url_of(call, port.guest), port.public_access,
                             call.services.host_ports->obstacle(port.host)};
}

Result<std::uint16_t> guest_port(const Call& call) {
    const std::string_view text = call.parameter("guest");
    std::uint16_t port = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
    if (error != std::errc{} || end != text.data() + text.size() || port == 0)
        return fail(Errc::invalid, "a port is a number from 1 to 65535");
    return port;
}

}  // namespace

Result<Response> get_network(Call& call) {
    const auto machine = find_vm(call);
    if (!machine) return fail(machine.error());
    return json_response((*machine)->network().to_json());
}

Awaitable<Result<Response>> put_network(Call& call) {
    const auto machine = find_vm(call);
    if (!machine) co_return fail(machine.error());
    boost::json::monotonic_resource memory;
    const auto value = wire::parse_json(call.body, &memory);
    if (!value) co_return fail(Error{value.error()}.at("invalid request body"));
    auto settings = vm::NetworkSettings::from_json(*value);
    if (!settings) co_return fail(std::move(settings).error().at("invalid request body"));
    if (auto set = co_await (*machine)->set_network(std::move(*settings)); !set)
        co_return fail(std::move(set).error());
    co_return json_response((*machine)->network().to_json());
}

Result<Response> list_ports(Call& call) {
    const auto machine = find_vm(call);
    if (!machine) return fail(machine.error());
    boost::json::array list;
    for (const vm::PublishedPort& port : (*machine)->published_ports())
        list.emplace_back(wire::to_json(to_wire(call, port)));
    return json_response(list);
}

Awaitable<Result<Response>> publish_port(Call& call) {
    const auto machine = find_vm(call);
    if (!machine) co_return fail(machine.error());
    const auto request = read_json<wire::ExposePort>(call);
    if (!request) co_return fail(request.error());
    const auto published = co_await call.services.host_ports->publish(*machine, request->guest, request->host,
                                                                      request->is_public);
    if (!published) co_return fail(published.error());
    co_return json_response(wire::to_json(to_wire(call, *published)), 201);
}

Awaitable<Result<Response>> withdraw_port(Call& call) {
    const auto machine = find_vm(call);
    if (!machine) co_return fail(machine.error());
    const auto guest = guest_port(call);
    if (!guest) co_return fail(guest.error());
    if (auto withdrawn = co_await call.services.host_ports->withdraw(*machine, *guest); !withdrawn)
        co_return fail(std::move(withdrawn).error());
    if (const auto label = label_of(call, *guest)) call.services.browsers.revoke_label(*label);
    co_return Response::no_content();
}

Result<Response> create_link(Call& call) {
    const auto machine = find_vm(call);
    if (!machine) return fail(machine.error());
    const auto guest = guest_port(call);
    if (!guest) return fail(guest.error());
    const auto ports = (*machine)->published_ports();
    if (std::none_of(ports.begin(), ports.end(), [&](const auto& port) { return port.guest == *guest; }))
        return fail(Errc::not_found, "port " + std::to_string(*guest) + " is not published");
    const auto url = url_of(call, *guest);
    if (!url) return fail(Errc::unsupported, "this port has no name: see [server] domain");
    const std::string ticket = call.services.browsers.issue_ticket(
        call.tenant->user_name(), *label_of(call, *guest), ingress::BrowserAccess::Clock::now());
    const boost::json::object link{{"url", *url + "?" + std::string{ticket_parameter} + "=" + ticket},
                                   {"expires_s", ingress::BrowserAccess::ticket_life.count()}};
    return json_response(link, 201);
}

}  // namespace noid::api
