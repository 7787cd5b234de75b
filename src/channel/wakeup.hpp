#pragma once

#include <boost/asio/any_io_executor.hpp>

#include "base/async.hpp"

namespace noid::channel {

// Wakes the coroutines of one strand that wait for something to change. They look again and, if it is
// not what they wait for, wait again; a notification without a waiter is not kept.
class Wakeup {
  public:
    explicit Wakeup(const asio::any_io_executor& strand)
        : never_{strand, asio::steady_timer::time_point::max()} {}

    // Cancelled, it returns too; the next co_await then throws.
    Awaitable<void> wait() {
        boost::system::error_code ignored;
        co_await never_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }
    void notify() { never_.cancel(); }

  private:
    asio::steady_timer never_;
};

}  // namespace noid::channel
