#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "agent/operation.hpp"
#include "proto/guest_peer.hpp"
#include "proto/guest_session.hpp"

namespace noid::agent {

// One session in the guest: its streams, what it does, and how long it waits for a consumer.
class Session final : public proto::GuestSession {
  public:
    Session(Context& context, proto::GuestPeer& peer, proto::SessionId id);
    ~Session() override;

    // Cancelled, or nobody came back in time: the agent is to destroy it.
    [[nodiscard]] bool over() const noexcept { return over_ || collected(); }
    [[nodiscard]] proto::SessionInfo info() const;

  private:
    void on_spec(proto::SessionSpec spec) override;
    void on_input() override;
    void on_output_room(proto::OutputStream stream) override;
    void on_signal(int number) override;
    void on_resize(proto::TerminalSize size) override;
    void on_cancel() override { over_ = true; }
    void on_consumer() override;
    void on_output() override { peer_.wants_to_send(*this); }
    void hold_passed();

    Context& context_;
    proto::GuestPeer& peer_;
    std::int64_t started_;
    proto::Disconnect on_disconnect_ = proto::Disconnect::cancel;
    std::chrono::milliseconds hold_for_;
    std::string label_;
    EventLoop::Timer hold_;
    bool over_ = false;
    std::unique_ptr<Operation> operation_;
};

}  // namespace noid::agent
