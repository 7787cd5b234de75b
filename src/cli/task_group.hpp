#pragma once

#include <exception>
#include <list>

#include "base/async.hpp"
#include "cli/event.hpp"

namespace noid::cli {

// Coroutines that run beside the one that owns the group and never outlive it: the owner awaits
// join() before it returns. Lives on the loop's thread.
class TaskGroup {
  public:
    explicit TaskGroup(asio::any_io_executor executor) : executor_{executor}, ended_{executor} {}
    TaskGroup(const TaskGroup&) = delete;
    TaskGroup& operator=(const TaskGroup&) = delete;

    void spawn(Awaitable<void> task);
    // Asks all of them to end; they see it at their next co_await.
    void cancel();
    [[nodiscard]] std::size_t running() const { return running_.size(); }
    // Waits until at most `most` of them run, and throws what the first that failed threw (a
    // cancelled task has not failed). Must be awaited with cancellation ignored or handled.
    Awaitable<void> join(std::size_t most = 0);

  private:
    asio::any_io_executor executor_;
    Event ended_;
    std::list<asio::cancellation_signal> running_;
    std::exception_ptr failure_;
};

}  // namespace noid::cli
