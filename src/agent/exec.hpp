#pragma once

#include <optional>
#include <string>

#include "agent/operation.hpp"
#include "agent/spawn.hpp"

namespace noid::agent {

// A command with pipes, or with a terminal of its own. Also what packs and unpacks directories, as
// that is the image's own tar.
class Exec final : public Operation {
  public:
    Exec(Context& context, proto::GuestSession& session, proto::Exec request, const char* kind = "exec");
    // Kills what the session has not let go: everything, until it has ended.
    ~Exec() override;

    void start() override;
    void on_input() override;
    void on_output_room(proto::OutputStream stream) override;
    void on_signal(int number) override;
    void on_resize(proto::TerminalSize size) override;
    [[nodiscard]] const char* kind() const noexcept override { return kind_; }
    [[nodiscard]] std::string describe() const override;
    [[nodiscard]] std::uint32_t pid() const noexcept override {
        return pid_ > 0 ? static_cast<std::uint32_t>(pid_) : 0;
    }
    [[nodiscard]] bool has_terminal() const noexcept override { return request_.tty.has_value(); }

  private:
    // One output of the process. Read only while the session has room for it.
    struct Source {
        Source(EventLoop& loop, EventLoop::Task go_on) : more{loop, std::move(go_on)} {}
        Fd fd;
        bool readable = false;
        EventLoop::Timer more;  // the rest of what is readable, after the others had their turn
        EventLoop::Watch watch;
    };

    [[nodiscard]] Result<Program> program() const;
    [[nodiscard]] Result<std::array<Fd, 3>> connect();
    void report_failure(const Program& program, const Spawned& spawned);
    [[nodiscard]] Source& source(proto::OutputStream stream) noexcept {
        return stream == proto::OutputStream::err ? err_ : out_;
    }
    void watch_source(proto::OutputStream stream);
    void pump_output(proto::OutputStream stream);
    [[nodiscard]] ssize_t read_some(proto::OutputStream stream);
    void close_source(proto::OutputStream stream);
    void pump_input();
    void close_input();
    void child_ended(int status);
    void settle();
    void finish();
    void kill_all() noexcept;

    Context& context_;
    proto::GuestSession& session_;
    proto::Exec request_;
    const char* kind_;
    Source out_;  // with a terminal: its master, for both directions
    Source err_;
    Fd in_;
    bool writable_ = true;
    EventLoop::Watch in_watch_;
    bool input_ended_ = false;
    Cgroup cgroup_;
    pid_t pid_ = -1;
    EventLoop::Timer time_limit_;
    EventLoop::Timer quiet_;
    std::optional<proto::SessionEnd> outcome_;  // known once the process has ended
    bool timed_out_ = false;
    bool finished_ = false;
};

}  // namespace noid::agent
