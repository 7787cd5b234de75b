#pragma once

#include "agent/operation.hpp"

namespace noid::agent {

// A TCP connection from inside the guest: input and `out` are its two directions, each with an end of
// its own.
class TcpConnect final : public Operation {
  public:
    TcpConnect(Context& context, proto::GuestSession& session, proto::TcpConnect request);

    void start() override;
    void on_input() override { pump_input(); }
    void on_output_room(proto::OutputStream) override { pump_output(); }
    [[nodiscard]] const char* kind() const noexcept override { return "tcp"; }
    [[nodiscard]] std::string describe() const override;

  private:
    void ready(std::uint32_t events);
    void pump_input();
    void pump_output();
    void fail_now(int error_number);
    void end_when_both_ended();

    Context& context_;
    proto::GuestSession& session_;
    proto::TcpConnect request_;
    Fd socket_;
    bool connected_ = false;
    bool readable_ = false;
    bool writable_ = false;
    bool input_ended_ = false;   // told the peer
    bool output_ended_ = false;  // the peer told us
    EventLoop::Timer more_;
    EventLoop::Watch watch_;
};

}  // namespace noid::agent
