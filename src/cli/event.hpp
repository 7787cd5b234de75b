#pragma once

#include "base/async.hpp"

namespace noid::cli {

// "Something changed": wakes every coroutine that waits now. Who waits checks the condition before
// and after, in a loop. Lives on the loop's thread.
class Event {
  public:
    explicit Event(const asio::any_io_executor& executor)
        : timer_{executor, asio::steady_timer::time_point::max()} {}

    void notify() { timer_.cancel(); }
    // Returns after the next notify(). Cancelled: the caller's next co_await throws.
    Awaitable<void> wait() {
        boost::system::error_code woken;
        co_await timer_.async_wait(asio::redirect_error(asio::use_awaitable, woken));
    }

  private:
    asio::steady_timer timer_;
};

}  // namespace noid::cli
