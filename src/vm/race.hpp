#pragma once

#include <boost/asio/deferred.hpp>
#include <boost/asio/experimental/parallel_group.hpp>
#include <utility>

#include "base/async.hpp"

namespace noid::vm {

namespace detail {

inline bool is_cancellation(const std::exception_ptr& thrown) {
    try {
        std::rethrow_exception(thrown);
    } catch (const boost::system::system_error& error) {
        return error.code() == asio::error::operation_aborted;
    } catch (...) {
        return false;
    }
}

inline void rethrow_bug(const std::exception_ptr& thrown) {
    if (thrown && !is_cancellation(thrown)) std::rethrow_exception(thrown);
}

}  // namespace detail

// Runs both to their ends, at once, and gives both results. A cancellation reaches both; the one it
// ended gives its default-constructed value, so check for it before using them.
template <class A, class B>
Awaitable<std::pair<Result<A>, Result<B>>> both(Awaitable<Result<A>> first, Awaitable<Result<B>> second) {
    auto executor = co_await asio::this_coro::executor;
    auto group =
        asio::experimental::make_parallel_group(asio::co_spawn(executor, std::move(first), asio::deferred),
                                                asio::co_spawn(executor, std::move(second), asio::deferred));
    auto [order, first_thrown, first_value, second_thrown, second_value] =
        co_await group.async_wait(asio::experimental::wait_for_all(), asio::use_awaitable);
    detail::rethrow_bug(first_thrown);
    detail::rethrow_bug(second_thrown);
    if (first_thrown) first_value = fail(Errc::cancelled, "cancelled");
    if (second_thrown) second_value = fail(Errc::cancelled, "cancelled");
    co_return std::pair{std::move(first_value), std::move(second_value)};
}

// Runs `work` until it ends or `stop` does, whichever is first; the other one is cancelled and
// joined. When `stop` was first, gives what `stop` gave as the failure.
template <class T>
Awaitable<Result<T>> unless(Awaitable<Result<T>> work, Awaitable<Error> stop) {
    auto executor = co_await asio::this_coro::executor;
    auto group =
        asio::experimental::make_parallel_group(asio::co_spawn(executor, std::move(work), asio::deferred),
                                                asio::co_spawn(executor, std::move(stop), asio::deferred));
    auto [order, thrown, value, stop_thrown, stopped] =
        co_await group.async_wait(asio::experimental::wait_for_one(), asio::use_awaitable);
    detail::rethrow_bug(thrown);
    detail::rethrow_bug(stop_thrown);
    // Work that finished although it was told to stop has finished.
    if (!thrown && (order[0] == 0 || value.has_value())) co_return std::move(value);
    if (!stop_thrown) co_return fail(std::move(stopped));
    co_return fail(Errc::cancelled, "cancelled");
}

}  // namespace noid::vm
