#pragma once

#include <memory>

#include "agent/operation.hpp"

namespace noid::agent {

// Input as a file's contents. The file appears whole, when everything is on disk, or not at all.
class FileWrite final : public Operation {
  public:
    FileWrite(Context& context, proto::GuestSession& session, proto::FileWrite request);

    void start() override;
    void on_input() override;
    [[nodiscard]] const char* kind() const noexcept override { return "file-write"; }
    [[nodiscard]] std::string describe() const override { return request_.path; }

  private:
    struct File;

    [[nodiscard]] Result<std::shared_ptr<File>> create() const;
    void publish();
    void fail_now(const Error& error);

    Context& context_;
    proto::GuestSession& session_;
    proto::FileWrite request_;
    std::shared_ptr<File> file_;  // nothing before start, after a failure, and while it is published
};

}  // namespace noid::agent
