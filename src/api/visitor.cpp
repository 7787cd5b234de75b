#include "api/visitor.hpp"

#include <algorithm>
#include <cctype>
#include <chrono>
#include <optional>
#include <utility>

#include "ingress/host_name.hpp"

namespace noid::api {

namespace {

using ingress::BrowserAccess;
constexpr std::string_view bearer = "Bearer ";

// Whether this can be a token of ours: no guest may see one, and a guest's own application may use
// Authorization for itself.
bool holds_our_token(std::string_view authorization) noexcept {
    if (!authorization.starts_with(bearer)) return false;
    std::string_view token = authorization.substr(bearer.size());
    if (token.starts_with("noid_tok_")) return true;
    return token.size() == 64 &&
           std::all_of(token.begin(), token.end(), [](unsigned char c) { return std::isxdigit(c) != 0; });
}

// Other sites, guests of the same domain among them, can make a browser send requests with the cookie.
// Only a page of the port itself may, and a person who follows a link.
bool comes_from_elsewhere(const HttpChannel& channel) {
    const std::string_view origin = channel.header("Origin");
    if (!origin.empty()) {
        const std::size_t scheme = origin.find("://");
        if (scheme == std::string_view::npos || origin.substr(scheme + 3) != channel.header("Host"))
            return true;
    }
    const std::string_view site = channel.header("Sec-Fetch-Site");
    if (site.empty() || site == "same-origin" || site == "none") return false;
    const bool navigation = channel.header("Sec-Fetch-Mode") == "navigate" &&
                            (channel.head().method == Method::get || channel.head().method == Method::head);
    return !navigation;
}

bool has_cookie(const Services& services, const HttpChannel& channel, const std::string& label) {
    if (comes_from_elsewhere(channel)) return false;
    for (const HeaderField& field : channel.headers()) {
        std::string name{field.name};
        std::transform(name.begin(), name.end(), name.begin(),
                       [](unsigned char c) { return std::tolower(c); });
        if (name != "cookie") continue;
        for (std::string_view rest = field.value; !rest.empty();) {
            const std::size_t end = std::min(rest.find(';'), rest.size());
            std::string_view cookie = rest.substr(0, end);
            rest.remove_prefix(std::min(end + 1, rest.size()));
            while (cookie.starts_with(' ')) cookie.remove_prefix(1);
            if (!cookie.starts_with(access_cookie) || cookie.size() <= access_cookie.size() ||
                cookie[access_cookie.size()] != '=')
                continue;
            if (services.browsers.admits(cookie.substr(access_cookie.size() + 1), label,
                                         BrowserAccess::Clock::now()))
                return true;
        }
    }
    return false;
}

// The target without the ticket, and the ticket.
std::optional<std::pair<std::string, std::string>> take_ticket(std::string_view target) {
    const std::size_t question = target.find('?');
    if (question == std::string_view::npos) return std::nullopt;
    std::string kept{target.substr(0, question)};
    std::optional<std::string> ticket;
    char separator = '?';
    for (std::string_view rest = target.substr(question + 1); !rest.empty();) {
        const std::size_t end = std::min(rest.find('&'), rest.size());
        const std::string_view part = rest.substr(0, end);
        rest.remove_prefix(std::min(end + 1, rest.size()));
        if (part.starts_with(ticket_parameter) && part.substr(ticket_parameter.size()).starts_with('=')) {
            ticket = part.substr(ticket_parameter.size() + 1);
        } else {
            kept.append(1, separator).append(part);
            separator = '&';
        }
    }
    if (!ticket) return std::nullopt;
    return std::pair{std::move(kept), std::move(*ticket)};
}

// Sends a browser to the page that its link was for, with its cookie.
std::optional<Response> trade_ticket(Services& services, const HttpChannel& channel,
                                     const std::string& label) {
    if (channel.head().method != Method::get) return std::nullopt;
    auto link = take_ticket(channel.head().target);
    // "//elsewhere" would lead to another host.
    if (!link || !link->first.starts_with('/') || link->first.starts_with("//")) return std::nullopt;
    const auto cookie = services.browsers.redeem(link->second, label, BrowserAccess::Clock::now());
    if (!cookie) return std::nullopt;
    Response response;
    response.status = 303;
    response.headers.emplace_back("Location", std::move(link->first));
    const std::string secure = protocol_of(services, channel) == "https" ? "; Secure" : "";
    response.headers.emplace_back("Set-Cookie", std::string{access_cookie} + "=" + *cookie +
                                                    "; Path=/; HttpOnly; SameSite=Lax; Max-Age=" +
                                                    std::to_string(BrowserAccess::cookie_life.count()) +
                                                    secure);
    response.headers.emplace_back("Cache-Control", "no-store");
    response.headers.emplace_back("Referrer-Policy", "no-referrer");
    return response;
}

struct Published {
    std::shared_ptr<vm::Vm> vm;
    std::string user;
    bool public_access = false;
};

std::optional<Published> find_published(Services& services, const ingress::GuestName& name) {
    const auto tenant = services.engine.tenant_named(name.user);
    const auto vm_name = vm::VmName::parse(name.vm);
    if (!tenant || !vm_name) return std::nullopt;
    const auto vm = tenant->find(*vm_name);
    if (!vm) return std::nullopt;
    for (const vm::PublishedPort& port : (*vm)->published_ports()) {
        if (port.guest == name.port) return Published{*vm, name.user, port.public_access};
    }
    return std::nullopt;
}

}  // namespace

std::variant<Admission, Response> admit(Services& services, const HttpChannel& channel,
                                        const std::string& label, std::string_view source,
                                        std::string_view request_id) {
    const auto hidden =
        problem(404, "not_found", "nothing is here, or it needs its owner's token or a link", request_id);
    // A target in absolute form names a host of its own: only one of the two could be meant.
    if (!channel.head().target.starts_with('/') && channel.head().target != "*") return hidden;
    const std::string_view authorization = channel.header("Authorization");
    const bool token = holds_our_token(authorization);
    const auto name = ingress::parse_label(label);
    const auto published = name ? find_published(services, *name) : std::nullopt;
    if (published && published->public_access) return Admission{published->vm, name->port, {}, token};
    if (token) {
        // Before anything is said about the name.
        auto outcome =
            services.authenticator.authenticate(authorization, source, Authenticator::Clock::now());
        if (const auto* refusal = std::get_if<Refusal>(&outcome))
            return refusal_response(*refusal, request_id);
        const auto tenant = std::get<std::shared_ptr<vm::Tenant>>(std::move(outcome));
        if (!published || tenant->user_name() != published->user) return hidden;
        return Admission{published->vm, name->port, published->user, true};
    }
    if (!published) return hidden;
    if (auto sent_on = trade_ticket(services, channel, label)) return std::move(*sent_on);
    if (!has_cookie(services, channel, label)) return hidden;
    return Admission{published->vm, name->port, published->user, false};
}

std::string protocol_of(const Services& services, const HttpChannel& channel) {
    const bool trusted = services.config.server.trust_forwarded_for;
    return trusted && channel.header("X-Forwarded-Proto") == "https" ? "https" : "http";
}

Response refusal_response(const Refusal& refusal, std::string_view request_id) {
    Response response = to_response(refusal.error, request_id);
    if (response.status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
    if (refusal.retry_after.count() > 0)
        response.headers.emplace_back("Retry-After", std::to_string(refusal.retry_after.count()));
    return response;
}

}  // namespace noid::api
