#pragma once

#include <memory>

#include "api/exchange.hpp"
#include "channel/session.hpp"
#include "vm/vm.hpp"

namespace noid::api {

struct PipeOptions {
    // The client knows our control messages: it is told the session's id and offsets, acknowledges
    // output itself, and when it goes away the session is held for it. Otherwise output counts as
    // acknowledged when it is written, and the session is cancelled with its client.
    bool resumable = false;
    // The session was taken over: its offsets are announced at once, not with its first event.
    bool attached = false;
    bool takes_input = false;
    proto::OutputOffsets begin;  // offsets at which output goes on
};

// Joins a guest session with a WebSocket until either ends. Bounded: at most one chunk of output and
// two windows of input are held. Runs on the WebSocket's strand; the session stays on the VM's.
Awaitable<void> pipe_session(WebSocket& socket, asio::any_io_executor vm_strand,
                             std::shared_ptr<channel::Session> session, PipeOptions options);

}  // namespace noid::api
