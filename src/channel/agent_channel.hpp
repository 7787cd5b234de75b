#pragma once

#include <boost/asio/local/stream_protocol.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/async.hpp"
#include "channel/session.hpp"
#include "proto/messages.hpp"

namespace noid::channel {

// The host's side of the agent protocol for one VM. Connects, re-connects by itself, carries any
// number of sessions. Everything that comes up from the guest is bounded and validated here; a
// guest that breaks the protocol loses its connection, never more.
//
// Lives on the VM's strand (the executor given to create()); every member is called there.
class AgentChannel {
  public:
    using Connect = std::function<Awaitable<Result<asio::local::stream_protocol::socket>>()>;

    // `connect` makes a new byte stream to the agent (vmm::Machine::connect_agent). Nothing happens
    // before start().
    [[nodiscard]] static std::shared_ptr<AgentChannel> create(asio::any_io_executor strand, Connect connect);
    virtual ~AgentChannel() = default;

    // Begins to connect and keeps the connection from here on, until stop().
    virtual void start() = 0;
    // Ends the channel: sessions get `unavailable`, the transport is closed. Final.
    virtual void stop() = 0;

    // Waits until the agent has answered the handshake of the present connection (at once if it has).
    // This is what "ready" means.
    virtual Awaitable<Result<proto::AgentInfo>> ready(std::chrono::milliseconds limit) = 0;

    // Before a snapshot: finishes the frame being written and holds back further ones. Sessions
    // stand still. After resume_traffic() (same machine or reconnect) they go on.
    virtual Awaitable<Result<void>> hold_traffic() = 0;
    virtual void resume_traffic() = 0;
    // Drops the transport and connects anew, at once; sessions go on at their offsets.
    virtual void reconnect() = 0;

    // limit_exceeded beyond proto::max_sessions.
    virtual Awaitable<Result<std::shared_ptr<Session>>> open(proto::SessionSpec spec) = 0;
    // Takes over a session that runs in the guest; the consumer has `have` bytes of each output.
    // Steals it from whoever is attached now (their next() gives `cancelled`). not_found when
    // there is none. Offsets that are no longer kept begin with a Dropped event.
    virtual Awaitable<Result<std::shared_ptr<Session>>> attach(proto::SessionId id,
                                                               proto::OutputOffsets have) = 0;
    virtual Awaitable<Result<std::vector<proto::SessionInfo>>> sessions() = 0;

    // Makes the guest a machine of its own after boot or restore; see proto::Identity. Whoever has the
    // machine opens no session before this has worked. Every session that the snapshot held is ended when
    // `identity.end_sessions` says so.
    virtual Awaitable<Result<void>> renew_identity(proto::Identity identity,
                                                   std::chrono::milliseconds limit) = 0;

    virtual Awaitable<Result<proto::GuestStats>> stats() = 0;
    // One round trip.
    virtual Awaitable<Result<void>> ping() = 0;
    // Asks the guest to power off in order (sync, then init's own way or reboot(2)).
    virtual Awaitable<Result<void>> shut_down() = 0;

    // Open sessions and forwarded connections of this host process; idle policies ask.
    [[nodiscard]] virtual std::size_t attached_sessions() const = 0;
};

}  // namespace noid::channel
