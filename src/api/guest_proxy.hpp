#pragma once

#include <string>

#include "api/http_channel.hpp"
#include "ingress/guest_stream.hpp"

namespace noid::api {

// What the guest is told of a request besides what the client sent.
struct Forwarding {
    std::string client;    // its address
    std::string protocol;  // "http", "https"
    // The client's credentials for this server, which no guest may see:
    bool hide_authorization = false;
    std::string hidden_cookie;  // its name
};

struct Forwarded {
    unsigned status = 0;
    bool complete = false;  // the connection may carry a further request
};

// Takes the request that `channel` has read to the guest and the answer back: bodies of any size as
// streams, both ways at once; 101 makes it a tunnel. Fields that are for one hop only stay here.
// unavailable when the guest closed before an answer began, corrupt when what it sent is no HTTP; later
// failures are an incomplete Forwarded.
[[nodiscard]] Awaitable<Result<Forwarded>> forward(HttpChannel& channel, ingress::GuestStream& guest,
                                                   const Forwarding& forwarding);

}  // namespace noid::api
