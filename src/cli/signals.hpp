#pragma once

#include <boost/asio/signal_set.hpp>
#include <functional>

#include "base/async.hpp"

namespace noid::cli {

// SIGINT, SIGTERM and SIGHUP of this process. By default the first one cancels the command, which
// then cleans up and ends, and a second one ends the process at once. A command that has better
// uses for them takes them over. Lives on the loop's thread.
class Signals {
  public:
    explicit Signals(const asio::any_io_executor& executor);

    // Emits `cancel` at the first signal; last() says which it was.
    void cancel_with(std::function<void()> cancel) { cancel_ = std::move(cancel); }
    // The signal that cancelled the command; 0: none did.
    [[nodiscard]] int cancelled_by() const noexcept { return cancelled_by_; }
    void stop();

    // While it lives, every signal goes to `handler` and nothing else happens.
    class TakeOver {
      public:
        TakeOver(Signals& signals, std::function<void(int)> handler);
        ~TakeOver();
        TakeOver(const TakeOver&) = delete;
        TakeOver& operator=(const TakeOver&) = delete;

      private:
        Signals& signals_;
        std::function<void(int)> before_;
    };

  private:
    void wait();
    void arrived(int signal);

    asio::signal_set set_;
    std::function<void()> cancel_;
    std::function<void(int)> handler_;
    int cancelled_by_ = 0;
};

// Restores the terminal and ends the process without waiting for anybody, as a signal would.
[[noreturn]] void end_by_signal(int signal);

}  // namespace noid::cli
