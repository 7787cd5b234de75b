#pragma once

#include <cstdint>
#include <deque>
#include <string>

#include "base/error.hpp"
#include "proto/codec.hpp"
#include "proto/frame.hpp"
#include "proto/guest_session.hpp"

namespace noid::proto {

// The guest's end of the protocol, without I/O: takes the frames of the one transport that counts,
// gives the bytes to send on it. Knows which sessions have something to send and lets each have its
// turn, so that one never stalls another.
class GuestPeer {
  public:
    // What the agent does about it.
    class Handler {
      public:
        virtual AgentInfo info() = 0;
        // A new session, or the one that is there.
        virtual Result<GuestSession*> open(SessionId id) = 0;
        virtual GuestSession* find(SessionId id) = 0;
        // Answer with reply(), now or later.
        virtual void handle(std::uint64_t request, Request message) = 0;
        // No host listens any more: sessions that were attached are to hold.
        virtual void host_lost() = 0;

      protected:
        ~Handler() = default;
    };

    explicit GuestPeer(Handler& handler) noexcept : handler_{handler} {}

    // corrupt when the host broke the protocol: then the transport is out of step.
    [[nodiscard]] Result<void> receive(const Frame& frame);
    // The transport ended or another took its place; nothing is sent until the next hello.
    void disconnected();
    // The transport lost the place in the byte stream: nothing can be understood until the next
    // hello, and the host is asked for it.
    void out_of_step();

    void reply(std::uint64_t request, const Reply& message);
    // The session has something to send.
    void wants_to_send(GuestSession& session);
    // The session is about to be destroyed.
    void forget(const GuestSession& session);
    // Tells the host that a session is no more.
    void gone(SessionId id, const Failure& why);

    [[nodiscard]] bool wants_to_send() const noexcept {
        return !small_.empty() || (connected_ && !waiting_.empty());
    }
    // Appends what is to be sent, about `budget` bytes.
    void gather(std::string& out, std::size_t budget);

  private:
    void hello(const Frame& frame);
    void add_small(FrameType type, std::uint64_t id, std::uint64_t offset, std::string_view payload);

    Handler& handler_;
    std::uint32_t epoch_ = 0;
    std::uint64_t nonce_ = 0;
    bool connected_ = false;
    bool talked_ = false;  // more than the handshake happened in this epoch
    std::string small_;    // frames that belong to no stream
    std::deque<GuestSession*> waiting_;
};

}  // namespace noid::proto
