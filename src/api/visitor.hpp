#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <variant>

#include "api/call.hpp"
#include "api/http_channel.hpp"
#include "vm/vm.hpp"

namespace noid::api {

// In the query of a link: its ticket.
inline constexpr std::string_view ticket_parameter = "noid_ticket";
// What it is traded for.
inline constexpr std::string_view access_cookie = "noid_access";

// A request that may go on to a guest.
struct Admission {
    std::shared_ptr<vm::Vm> vm;
    std::uint16_t port = 0;
    std::string user;                 // whose token or cookie let it in; empty: the port is public
    bool hide_authorization = false;  // it holds a token of this server
};

// Who may see the port that `label` names: anybody a public one, its owner any other: by token, or by
// the cookie of a link. An answer instead where the client is not let in, or is sent on with its cookie.
// Names that nobody has, ports that are not published and those of others answer the same 404.
[[nodiscard]] std::variant<Admission, Response> admit(Services& services, const HttpChannel& channel,
                                                      const std::string& label, std::string_view source,
                                                      std::string_view request_id);

// How the client reached the nearest proxy, or us: "http", "https".
[[nodiscard]] std::string protocol_of(const Services& services, const HttpChannel& channel);

// The answer to a request that was not let in by its token.
[[nodiscard]] Response refusal_response(const Refusal& refusal, std::string_view request_id);

}  // namespace noid::api
