#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "api/call.hpp"
#include "api/message.hpp"

namespace noid::api {

enum class Access : std::uint8_t {
    open,    // anybody
    tenant,  // a valid token
    local,   // the administration socket; its peer was checked when it connected
};

// How an endpoint takes the request's body.
enum class Input : std::uint8_t {
    none,    // a body is read away
    json,    // read whole into Call::body, bounded by [limits] max_body_bytes
    stream,  // the endpoint reads it
};

// What ends the endpoint besides itself; a client that goes away always does, except for `stream`
// input, where reading shows it.
enum class Deadline : std::uint8_t {
    request,  // [server] timeout
    own,      // the endpoint has one of its own
    stream,   // none, but that the token stops being valid
};

// An endpoint without anything to wait for.
using Immediate = Result<Response> (*)(Call&);
using Waiting = Awaitable<Result<Response>> (*)(Call&);

struct Route {
    Method method = Method::get;  // GET answers HEAD too
    std::string_view pattern;     // "/v1/vms/{name}/exec"; "{*rest}" at the end takes all that follows
    Access access = Access::tenant;
    std::variant<Immediate, Waiting> endpoint;
    Input input = Input::none;
    Deadline deadline = Deadline::request;
    bool web_socket = false;  // matches only requests that ask for an upgrade
};

struct Match {
    const Route* route = nullptr;
    std::vector<std::pair<std::string_view, std::string_view>> parameters;  // views of the target's segments
};
struct NoSuchPath {};
struct WrongMethod {
    std::string allow;  // for the Allow header: "GET, HEAD, POST, OPTIONS"
};
struct NeedsUpgrade {
    const Route* route = nullptr;
};
using Routing = std::variant<Match, NoSuchPath, WrongMethod, NeedsUpgrade>;

// Finds the route of a request. The table must outlive the router. Thread-safe.
class Router {
  public:
    explicit Router(std::span<const Route> routes);

    [[nodiscard]] Routing route(Method method, const Target& target, bool upgrade) const;

  private:
    struct Entry {
        const Route* route;
        std::vector<std::string_view> segments;
    };
    std::vector<Entry> entries_;
};

}  // namespace noid::api
