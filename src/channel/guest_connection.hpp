#pragma once

#include <boost/asio/local/stream_protocol.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/async.hpp"
#include "channel/agent_channel.hpp"
#include "channel/wakeup.hpp"
#include "proto/host_peer.hpp"

namespace noid::channel {

class SessionState;

// The channel to one guest's agent: keeps a transport, moves its bytes to and from the protocol's state
// machine, and tells whoever waits.
class GuestConnection final : public AgentChannel,
                              private proto::HostPeer::Handler,
                              public std::enable_shared_from_this<GuestConnection> {
  public:
    GuestConnection(asio::any_io_executor strand, Connect connect);
    ~GuestConnection() override;

    void start() override;
    void stop() override;
    Awaitable<Result<proto::AgentInfo>> ready(std::chrono::milliseconds limit) override;
    Awaitable<Result<void>> hold_traffic() override;
    void resume_traffic() override;
    void reconnect() override;
    Awaitable<Result<std::shared_ptr<Session>>> open(proto::SessionSpec spec) override;
    Awaitable<Result<std::shared_ptr<Session>>> attach(proto::SessionId id,
                                                       proto::OutputOffsets have) override;
    Awaitable<Result<std::vector<proto::SessionInfo>>> sessions() override;
    Awaitable<Result<void>> renew_identity(proto::Identity identity,
                                           std::chrono::milliseconds limit) override;
    Awaitable<Result<proto::GuestStats>> stats() override;
    Awaitable<Result<void>> ping() override;
    Awaitable<Result<void>> shut_down() override;
    [[nodiscard]] std::size_t attached_sessions() const override;

    // ---- for the sessions ----
    [[nodiscard]] const asio::any_io_executor& strand() const noexcept { return strand_; }
    [[nodiscard]] bool stopped() const noexcept { return stopped_; }
    void wants_to_send(proto::SessionId id) { peer_.wants_to_send(id); }
    // Sends what waits, if nothing is being sent, and forgets sessions that were left.
    void flush();

  private:
    // One transport. Kept by the operations on it.
    struct Transport {
        explicit Transport(asio::local::stream_protocol::socket connected) : socket{std::move(connected)} {}
        asio::local::stream_protocol::socket socket;
        std::string output;
        bool writing = false;
    };
    struct Question;

    void handshaken(proto::AgentInfo info) override;
    void replied(std::uint64_t request, proto::Reply reply) override;
    void resync() override;

    Awaitable<void> run();
    // Until the transport breaks. True when the agent answered on it and kept to the protocol.
    Awaitable<bool> serve(std::shared_ptr<Transport> transport);
    void greet(bool new_transport);
    void plan_next_hello();
    void written(const std::shared_ptr<Transport>& transport, boost::system::error_code error);
    void forget_left_sessions();
    void close_transport();
    Awaitable<Result<proto::AgentInfo>> established();
    Awaitable<Result<proto::Reply>> ask(proto::Request request);
    Awaitable<Result<void>> ask_for_done(proto::Request request);

    asio::any_io_executor strand_;
    Connect connect_;
    proto::HostPeer peer_{*this};
    bool started_ = false;
    bool stopped_ = false;
    bool held_ = false;
    asio::cancellation_signal stop_signal_;
    std::shared_ptr<Transport> transport_;
    bool reconnect_at_once_ = false;
    int resyncs_ = 0;  // on this transport
    asio::steady_timer hello_timer_;
    std::chrono::milliseconds hello_interval_{};
    asio::steady_timer retry_timer_;
    Wakeup changed_;  // established, held, written, stopped
    std::optional<proto::AgentInfo> info_;
    std::optional<Error> last_error_;  // why there is no connection
    std::map<std::uint64_t, Question*> questions_;
    std::uint64_t next_question_ = 1;
};

}  // namespace noid::channel
