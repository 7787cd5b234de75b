#pragma once

#include "agent/operation.hpp"

namespace noid::agent {

// A regular file's contents as output.
class FileRead final : public Operation {
  public:
    FileRead(Context& context, proto::GuestSession& session, proto::FileRead request);

    void start() override;
    void on_output_room(proto::OutputStream) override { pump(); }
    [[nodiscard]] const char* kind() const noexcept override { return "file-read"; }
    [[nodiscard]] std::string describe() const override { return request_.path; }

  private:
    void pump();

    proto::GuestSession& session_;
    proto::FileRead request_;
    Fd file_;
    EventLoop::Timer more_;
};

}  // namespace noid::agent
