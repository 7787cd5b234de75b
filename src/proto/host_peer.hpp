#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "base/error.hpp"
#include "proto/codec.hpp"
#include "proto/frame.hpp"
#include "proto/host_session.hpp"

namespace noid::proto {

// The host's end of the protocol for one VM, without I/O: takes the bytes that come from the guest,
// gives the bytes to send. The guest is hostile: whatever it sends, memory stays bounded by its
// sessions' windows, and what breaks the protocol is an error, after which the transport is to be
// closed. Sessions and requests outlive transports.
class HostPeer {
  public:
    // What the channel does about it.
    class Handler {
      public:
        virtual void handshaken(AgentInfo info) = 0;
        virtual void replied(std::uint64_t request, Reply reply) = 0;
        // The agent lost its place in the byte stream: begin() with new numbers, same transport.
        virtual void resync() = 0;

      protected:
        ~Handler() = default;
    };

    explicit HostPeer(Handler& handler) noexcept : handler_{handler} {}

    // Begins a connection: a hello with these random numbers is the next to be sent. new_transport:
    // nothing of what was read before counts.
    void begin(std::uint64_t nonce, std::uint32_t epoch, bool new_transport);
    // The hello was not answered in time: it may have been swallowed as the rest of a frame that the
    // transport before cut off. Enough zeros to complete that frame go first.
    void repeat_hello();
    // The transport is gone; nothing is sent until begin().
    void disconnected();
    [[nodiscard]] bool established() const noexcept { return state_ == State::established; }

    // Space for bytes from the transport; received() takes them.
    [[nodiscard]] std::span<char> space() { return reader_.prepare(); }
    [[nodiscard]] Result<void> received(std::size_t count);

    // Answered by Handler::replied with the same id, once, after however many transports; requests
    // are repeated on a new one. The encoded request must fit max_payload.
    void request(std::uint64_t id, std::string encoded);
    void forget_request(std::uint64_t id) { requests_.erase(id); }

    void add(std::shared_ptr<HostSession> session);
    void remove(SessionId id);
    [[nodiscard]] std::shared_ptr<HostSession> find(SessionId id) const;
    [[nodiscard]] const std::map<SessionId, std::shared_ptr<HostSession>>& sessions() const noexcept {
        return sessions_;
    }
    // The session has something to send.
    void wants_to_send(SessionId id);

    // Appends what is to be sent, about `budget` bytes.
    void gather(std::string& out, std::size_t budget);

  private:
    enum class State : std::uint8_t { idle, greeting, established };
    struct Pending {
        std::string encoded;
        bool sent = false;
    };

    [[nodiscard]] Result<void> receive(const Frame& frame);
    void add_hello();

    Handler& handler_;
    FrameReader reader_{FrameReader::Side::host};
    State state_ = State::idle;
    std::uint64_t nonce_ = 0;
    std::uint32_t epoch_ = 0;
    std::string greeting_;
    std::map<std::uint64_t, Pending> requests_;
    bool new_requests_ = false;
    std::map<SessionId, std::shared_ptr<HostSession>> sessions_;
    std::deque<SessionId> waiting_;
};

}  // namespace noid::proto
