#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/experimental/parallel_group.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <chrono>
#include <exception>
#include <memory>
#include <optional>
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
    auto race = asio::experimental::make_parallel_group(
        asio::co_spawn(executor, std::move(work), asio::deferred), timer.async_wait(asio::deferred));
    auto [order, thrown, value, timer_error] =
        co_await race.async_wait(asio::experimental::wait_for_one(), asio::use_awaitable);
    if (order[0] == 1 && !timer_error) co_return fail(Errc::timed_out, "deadline passed");
    if (thrown) std::rethrow_exception(thrown);
    co_return std::move(value);
}

namespace detail {

struct Nothing {};
template <class T>
using Storable = std::conditional_t<std::is_void_v<T>, Nothing, T>;

template <class Work>
auto call_and_store(Work& work) {
    using T = std::invoke_result_t<Work&>;
    if constexpr (std::is_void_v<T>) {
        work();
        return Nothing{};
    } else {
        return work();
    }
}

// Carries a cancellation onto another strand. co_spawn of Boost 1.81 posts a bare pointer there, which
// the finished operation may have freed by then; here the pointee is shared. Used on `executor` only.
struct CrossStrandCancellation {
    asio::cancellation_signal signal;
    bool done = false;
};

}  // namespace detail

// Runs the blocking `work` on `pool` and resumes on the caller's executor. Not interruptible: a
// cancellation is seen by the caller's next co_await. For SQLite, file copies, hashing: whatever
// would block the loop.
template <class Work>
Awaitable<std::invoke_result_t<Work&>> on_pool(asio::thread_pool& pool, Work work) {
    using T = std::invoke_result_t<Work&>;
    std::optional<detail::Storable<T>> value;
    auto initiate = [&](auto handler) {
        auto executor = asio::get_associated_executor(handler);
        auto job = [&work, &value, executor, handler = std::move(handler),
                    guard = asio::make_work_guard(executor)]() mutable {
            std::exception_ptr thrown;
            try {
                value.emplace(detail::call_and_store(work));
            } catch (...) {
                thrown = std::current_exception();
            }
            asio::post(executor, [handler = std::move(handler), thrown]() mutable { handler(thrown); });
        };
        asio::post(pool, std::move(job));
    };
    co_await asio::async_initiate<const asio::use_awaitable_t<>, void(std::exception_ptr)>(
        initiate, asio::use_awaitable);
    if constexpr (!std::is_void_v<T>) co_return std::move(*value);
}

// Runs the coroutine function `work` on `executor` (a strand) and resumes on the caller's executor.
// The way into an object that lives on a strand of its own. Cancellation reaches `work`; this
// returns when `work` has ended.
template <class Work>
auto on_strand(asio::any_io_executor executor, Work work) -> std::invoke_result_t<Work&> {
    using T = typename std::invoke_result_t<Work&>::value_type;
    std::optional<detail::Storable<T>> value;
    auto run = [&work, &value]() -> Awaitable<void> {
        if constexpr (std::is_void_v<T>) {
            co_await work();
            value.emplace();
        } else {
            value.emplace(co_await work());
        }
    };
    auto initiate = [&](auto handler) {
        auto state = std::make_shared<detail::CrossStrandCancellation>();
        auto caller = asio::get_associated_executor(handler);
        if (auto slot = asio::get_associated_cancellation_slot(handler); slot.is_connected()) {
            slot.assign([state, executor](asio::cancellation_type type) {
                asio::post(executor, [state, type] {
                    if (!state->done) state->signal.emit(type);
                });
            });
        }
        auto finished = [state, caller, handler = std::move(handler),
                         guard = asio::make_work_guard(caller)](std::exception_ptr thrown) mutable {
            state->done = true;
            asio::post(caller, [handler = std::move(handler), thrown]() mutable { handler(thrown); });
        };
        asio::co_spawn(executor, run,
                       asio::bind_cancellation_slot(state->signal.slot(), std::move(finished)));
    };
    co_await asio::async_initiate<const asio::use_awaitable_t<>, void(std::exception_ptr)>(
        initiate, asio::use_awaitable);
    if constexpr (!std::is_void_v<T>) co_return std::move(*value);
}

// `co_await ignore_cancellation()`: asynchronous clean-up in a cancelled coroutine then runs to its
// end, where otherwise its next co_await would throw. Holds for the whole spawned coroutine. Not a
// coroutine itself: awaiting one would throw before it could help.
[[nodiscard]] inline auto ignore_cancellation() {
    return asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
}

}  // namespace noid
