#include "cli/proxy.hpp"

#include <fmt/format.h>

#include <array>
#include <string>
#include <string_view>

namespace noid::cli {
namespace {

constexpr auto switch_name = "NOID_USE_SYSTEM_PROXY";

std::optional<std::string> proxy_variable(const ServerUrl& server, const Environment& environment) {
    constexpr std::array plain{"HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"};
    constexpr std::array secure{"HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"};
    for (const auto* name : server.tls ? secure : plain) {
        if (auto value = environment.text(name)) return value;
    }
    return std::nullopt;
}

// NO_PROXY: "*", or hosts and domains, which cover what is below them.
bool is_exempt(const std::string& host, const Environment& environment) {
    auto list = environment.text("NO_PROXY");
    if (!list) list = environment.text("no_proxy");
    if (!list) return false;
    std::string_view rest = *list;
    while (!rest.empty()) {
        const auto comma = rest.find(',');
        auto entry = rest.substr(0, comma);
        rest = comma == std::string_view::npos ? std::string_view{} : rest.substr(comma + 1);
        while (entry.starts_with(' ')) entry.remove_prefix(1);
        while (entry.ends_with(' ')) entry.remove_suffix(1);
        if (entry.starts_with('.')) entry.remove_prefix(1);
        if (entry.empty()) continue;
        if (entry == "*" || host == entry) return true;
        if (host.size() > entry.size() && host.ends_with(entry) &&
            host[host.size() - entry.size() - 1] == '.')
            return true;
    }
    return false;
}

}  // namespace

Result<std::optional<ServerUrl>> choose_proxy(const ServerUrl& server, const Environment& environment) {
    if (!environment.truthy(switch_name) || is_exempt(server.host, environment)) return std::nullopt;
    auto text = proxy_variable(server, environment);
    if (!text) return std::nullopt;
    if (text->find("://") == std::string::npos) text->insert(0, "http://");
    auto proxy = ServerUrl::parse(*text);
    if (!proxy || proxy->tls)
        return fail(Errc::invalid,
                    fmt::format("proxy '{}' cannot be used (expected http://HOST:PORT)", *text));
    return std::move(*proxy);
}

bool ignores_proxy(const ServerUrl& server, const Environment& environment) {
    return !environment.truthy(switch_name) && proxy_variable(server, environment) &&
           !is_exempt(server.host, environment);
}

}  // namespace noid::cli
