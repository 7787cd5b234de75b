#include "vm/operation_queue.hpp"

#include <boost/asio/error.hpp>
#include <boost/system/system_error.hpp>

namespace noid::vm {

Awaitable<OperationQueue::Turn> OperationQueue::turn() {
    if (!busy_) {
        busy_ = true;
        co_return Turn{*this};
    }
    auto executor = co_await asio::this_coro::executor;
    auto waiter =
        std::make_shared<Waiter>(Waiter{asio::steady_timer{executor, asio::steady_timer::time_point::max()}});
    waiting_.push_back(waiter);
    boost::system::error_code ignored;
    co_await waiter->granted_signal.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    // Granted and cancelled at once: the Turn is made, and its destructor passes the right on.
    if (waiter->granted) co_return Turn{*this};
    std::erase(waiting_, waiter);
    throw boost::system::system_error{asio::error::operation_aborted};
}

void OperationQueue::release() noexcept {
    if (waiting_.empty()) {
        busy_ = false;
        return;
    }
    auto next = std::move(waiting_.front());
    waiting_.pop_front();
    next->granted = true;
    next->granted_signal.cancel();
}

}  // namespace noid::vm
