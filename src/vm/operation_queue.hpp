#pragma once

#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <memory>

#include "base/async.hpp"

namespace noid::vm {

// Lets the operations on one VM run one after the other, in the order in which they came. Used on
// one strand.
class OperationQueue {
  public:
    // The right to run. Given back when it is destroyed.
    class Turn {
      public:
        Turn(Turn&& other) noexcept : queue_{std::exchange(other.queue_, nullptr)} {}
        Turn& operator=(Turn&&) = delete;
        ~Turn() {
            if (queue_ != nullptr) queue_->release();
        }

      private:
        friend class OperationQueue;
        explicit Turn(OperationQueue& queue) noexcept : queue_{&queue} {}
        OperationQueue* queue_;
    };

    // Waits for the others. Cancelled: the place in the queue is given up and this throws.
    Awaitable<Turn> turn();

  private:
    struct Waiter {
        asio::steady_timer granted_signal;
        bool granted = false;
    };
    void release() noexcept;

    bool busy_ = false;
    std::deque<std::shared_ptr<Waiter>> waiting_;
};

}  // namespace noid::vm
