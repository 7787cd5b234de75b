#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/async.hpp"
#include "base/error.hpp"
#include "ingress/guest_stream.hpp"

namespace noid::ingress {

// The client's end of a tunnel: its bare socket, or one that began with HTTP. One reader, one writer.
class Duplex {
  public:
    Duplex() = default;
    Duplex(const Duplex&) = delete;
    Duplex& operator=(const Duplex&) = delete;
    virtual ~Duplex() = default;

    // Empty at the end of what the client sends.
    virtual Awaitable<Result<std::string>> read() = 0;
    virtual Awaitable<Result<void>> write(std::string_view bytes) = 0;
    virtual void end_writing() = 0;
    // Ends it now, so that the client sees that it is not whole.
    virtual void abort() = 0;
};

// Carries bytes both ways until both ends have closed or one breaks. Each end's closing is passed on by
// itself; at most one piece of each direction is held. Runs on the client's executor.
Awaitable<void> tunnel(Duplex& client, GuestStream& guest);

}  // namespace noid::ingress
