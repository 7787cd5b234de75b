#pragma once

#include <functional>
#include <string>

#include "agent/event_loop.hpp"
#include "base/error.hpp"
#include "base/fd.hpp"
#include "proto/frame.hpp"

namespace noid::agent {

// One transport to the host: a connected socket, or a virtio-serial port, which outlives the host's
// connections. Cuts what comes into frames and writes what it is given.
class Link {
  public:
    enum class Kind : std::uint8_t { socket, port };

    class Handler {
      public:
        virtual void on_frame(Link& link, const proto::Frame& frame) = 0;
        // Bytes came that are no frame of this connection.
        virtual void on_out_of_step(Link& link) = 0;
        // The host closed its end. A socket is of no use any more.
        virtual void on_host_away(Link& link) = 0;
        // There is room for more output.
        virtual void on_writable(Link& link) = 0;

      protected:
        ~Handler() = default;
    };

    // `fd` is non-blocking.
    Link(EventLoop& loop, Fd fd, Kind kind, Handler& handler);
    Link(const Link&) = delete;
    Link& operator=(const Link&) = delete;

    [[nodiscard]] Kind kind() const noexcept { return kind_; }
    // False once a socket's host is away; the owner destroys it when no call of it runs.
    [[nodiscard]] bool alive() const noexcept { return alive_; }
    void close() noexcept;

    // What was not written of the connection before is not to be.
    void drop_output() noexcept;
    // To be filled when wants_output() says so, then flush().
    [[nodiscard]] bool wants_output() const noexcept { return alive_ && writable_ && output_.empty(); }
    [[nodiscard]] std::string& output() noexcept { return output_; }
    // Writes as much as the transport takes.
    void flush();

  private:
    void ready(std::uint32_t events);
    void read_more();
    void host_away();

    Fd fd_;
    Kind kind_;
    Handler& handler_;
    proto::FrameReader reader_{proto::FrameReader::Side::agent};
    std::string output_;
    std::size_t written_ = 0;
    bool alive_ = true;
    bool writable_ = true;
    EventLoop::Timer more_;
    EventLoop::Watch watch_;
};

}  // namespace noid::agent
