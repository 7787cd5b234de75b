#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/experimental/parallel_group.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <chrono>
#include <exception>
#include <type_traits>
#include <utility>

#include "base/error.hpp"

namespace noid {

namespace asio = boost::asio;
template <class T>
using Awaitable = asio::awaitable<T>;

// Runs `work` for at most `limit` and gives its result, its exception, or Errc::timed_out.
// The loser is cancelled and joined: `work` has ended when this returns. Work that blocks or
// disables cancellation delays the return. T must be default-constructible.
// (operator|| of Asio would hide an exception of `work` until the timer fires.)
template <class T>
Awaitable<Result<T>> within(std::chrono::milliseconds limit, Awaitable<Result<T>> work) {
    auto executor = co_await asio::this_coro::executor;
    asio::steady_timer timer{executor, limit};
    auto race = asio::experimental::make_parallel_group(asio::co_spawn(executor, std::move(work), asio::deferred),
                                                        timer.async_wait(asio::deferred));
    auto [order, thrown, value, timer_error] =
        co_await race.async_wait(asio::experimental::wait_for_one(), asio::use_awaitable);
    if (order[0] == 1 && !timer_error) co_return fail(Errc::timed_out, "deadline passed");
    if (thrown) std::rethrow_exception(thrown);
    co_return std::move(value);
}

// Runs the blocking `work` on `pool` and resumes on the caller's executor. Not interruptible.
// For SQLite, file copies, hashing: whatever would block the loop.
template <class Work>
Awaitable<std::invoke_result_t<Work&>> on_pool(asio::thread_pool& pool, Work work) {
    // The lambda is named: g++ 12 destroys a capturing lambda twice when it is written inside the
    // co_await expression.
    auto job = [&work]() -> Awaitable<std::invoke_result_t<Work&>> { co_return work(); };
    co_return co_await asio::co_spawn(pool, job, asio::use_awaitable);
}

// Runs the coroutine function `work` on `executor` (a strand) and resumes on the caller's executor.
// The way into an object that lives on a strand of its own. Cancellation reaches `work`.
template <class Work>
auto on_strand(asio::any_io_executor executor, Work work) -> std::invoke_result_t<Work&> {
    co_return co_await asio::co_spawn(executor, work(), asio::use_awaitable);
}

// After this, asynchronous clean-up in a cancelled coroutine runs to its end: without it the next
// co_await would throw.
inline Awaitable<void> ignore_cancellation() {
    co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
}

}  // namespace noid
