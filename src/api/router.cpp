#include "api/router.hpp"

#include <algorithm>

namespace noid::api {

namespace {

bool is_parameter(std::string_view segment) noexcept {
    return segment.starts_with('{');
}
bool is_rest(std::string_view segment) noexcept {
    return segment.starts_with("{*");
}

std::vector<std::string_view> split(std::string_view pattern) {
    std::vector<std::string_view> segments;
    pattern.remove_prefix(1);
    while (!pattern.empty()) {
        const std::size_t slash = pattern.find('/');
        segments.push_back(pattern.substr(0, slash));
        pattern.remove_prefix(slash == std::string_view::npos ? pattern.size() : slash + 1);
    }
    return segments;
}

// A trailing slash is ignored behind a parameter ("/v1/vms/web/"), as earlier versions did, and
// nowhere else.
bool matches(const std::vector<std::string_view>& pattern, const Target& target) {
    const bool open_end = !pattern.empty() && is_rest(pattern.back());
    if (open_end ? target.segments.size() + 1 < pattern.size() : target.segments.size() != pattern.size())
        return false;
    if (!open_end && target.trailing_slash && !(pattern.size() > 2 && is_parameter(pattern.back())))
        return false;
    for (std::size_t i = 0; i < pattern.size() && !is_rest(pattern[i]); ++i) {
        if (!is_parameter(pattern[i]) && pattern[i] != target.segments[i]) return false;
    }
    return true;
}

bool serves(const Route& route, Method method) noexcept {
    return route.method == method ||
           (route.method == Method::get && method == Method::head && !route.web_socket);
}

}  // namespace

Router::Router(std::span<const Route> routes) {
    for (const Route& route : routes) entries_.push_back(Entry{&route, split(route.pattern)});
}

Routing Router::route(Method method, const Target& target, bool upgrade) const {
    std::vector<const Route*> here;  // routes of this path, whatever their method
    for (const Entry& entry : entries_) {
        if (!matches(entry.segments, target)) continue;
        if (entry.route->web_socket == upgrade && serves(*entry.route, method)) {
            Match match{entry.route, {}};
            for (std::size_t i = 0; i < entry.segments.size() && !is_rest(entry.segments[i]); ++i) {
                const std::string_view segment = entry.segments[i];
                if (is_parameter(segment))
                    match.parameters.emplace_back(segment.substr(1, segment.size() - 2), target.segments[i]);
            }
            return match;
        }
        here.push_back(entry.route);
    }
    if (upgrade || here.empty()) return NoSuchPath{};
    const auto web_socket =
        std::find_if(here.begin(), here.end(), [](const Route* r) { return r->web_socket; });
    if (method == Method::get && web_socket != here.end()) return NeedsUpgrade{*web_socket};
    WrongMethod wrong;
    const auto allow = [&](std::string_view name) {
        if (!wrong.allow.empty()) wrong.allow += ", ";
        wrong.allow += name;
    };
    for (const Method candidate :
         {Method::get, Method::head, Method::post, Method::put, Method::patch, Method::delete_}) {
        if (std::any_of(here.begin(), here.end(), [&](const Route* r) { return serves(*r, candidate); }))
            allow(name_of(candidate));
    }
    allow("OPTIONS");
    return wrong;
}

std::string_view Call::parameter(std::string_view name) const noexcept {
    const auto found = std::find_if(parameters.begin(), parameters.end(),
                                    [&](const auto& entry) { return entry.first == name; });
    return found == parameters.end() ? std::string_view{} : found->second;
}

}  // namespace noid::api
