#pragma once

#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <memory>

#include "base/async.hpp"

namespace noid::api {

// Calls `expired` when a deadline passes. For deadlines that move with every request and hardly ever pass:
// to move one further away costs no timer. Lives on one strand; after its destruction nothing is called.
class Watchdog {
  public:
    using Clock = std::chrono::steady_clock;

    Watchdog(asio::any_io_executor executor, std::function<void()> expired);
    Watchdog(const Watchdog&) = delete;
    Watchdog& operator=(const Watchdog&) = delete;
    ~Watchdog() = default;

    void expires_after(Clock::duration duration);
    void expires_never() noexcept;

  private:
    struct State {
        asio::steady_timer timer;
        std::function<void()> expired;
        Clock::time_point deadline = Clock::time_point::max();
        Clock::time_point armed = Clock::time_point::max();  // when the timer rings, at the latest
    };
    static void arm(const std::shared_ptr<State>& state);

    std::shared_ptr<State> state_;
};

}  // namespace noid::api
