#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "api/authenticator.hpp"
#include "api/exchange.hpp"
#include "api/list_cache.hpp"
#include "api/live_sessions.hpp"
#include "api/metrics.hpp"
#include "api/open_streams.hpp"
#include "api/target.hpp"
#include "config/server_config.hpp"
#include "ingress/browser_access.hpp"
#include "ingress/host_ports.hpp"
#include "ingress/visits.hpp"
#include "vm/engine.hpp"
#include "vm/tenant.hpp"

namespace noid::api {

// What all requests of one server share. Thread-safe as a whole.
struct Services {
    vm::Engine& engine;
    const config::ServerConfig& config;
    Authenticator authenticator;
    Metrics metrics;
    LiveSessions live_sessions;
    OpenStreams streams;
    ListCache lists;
    std::shared_ptr<ingress::HostPorts> host_ports;
    ingress::Visits& visits;
    ingress::BrowserAccess browsers;
};

// One request on its way through an endpoint. Valid until the endpoint returns.
struct Call {
    Services& services;
    Exchange& exchange;
    Method method = Method::get;
    const Target& target;
    std::string_view request_id;
    std::shared_ptr<vm::Tenant> tenant;  // nullptr where no token is asked for
    std::string body;                    // of endpoints that take JSON
    std::vector<std::pair<std::string_view, std::string_view>> parameters;  // of the path: {"name", "web-1"}

    // The path's parameter of that name; the route's pattern has it.
    [[nodiscard]] std::string_view parameter(std::string_view name) const noexcept;
};

}  // namespace noid::api
