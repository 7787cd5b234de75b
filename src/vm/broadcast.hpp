#pragma once

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>

#include "base/async.hpp"

namespace noid::vm {

// Wakes everybody who waits now. Used on one strand: check the condition, wait, check again.
class Broadcast {
  public:
    explicit Broadcast(asio::any_io_executor strand)
        : timer_{std::move(strand), asio::steady_timer::time_point::max()} {}

    // Returns at the next notify(), or when cancelled (then the caller's next co_await throws).
    Awaitable<void> wait() {
        boost::system::error_code ignored;
        co_await timer_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }
    void notify() { timer_.cancel(); }

  private:
    asio::steady_timer timer_;  // never expires: its cancellation is the notification
};

}  // namespace noid::vm
