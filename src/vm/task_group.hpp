#pragma once

#include <boost/asio/cancellation_signal.hpp>
#include <list>
#include <memory>
#include <string>

#include "base/async.hpp"
#include "vm/broadcast.hpp"

namespace noid::vm {

// Owns background coroutines: none of them is forgotten, an exception in one is logged. Used on one
// strand, where the coroutines run too. They must hold on to what they use: destroying the group
// cancels them but does not wait; join() does.
class TaskGroup {
  public:
    TaskGroup(asio::any_io_executor strand, std::string name);
    TaskGroup(const TaskGroup&) = delete;
    TaskGroup& operator=(const TaskGroup&) = delete;
    ~TaskGroup() { cancel(); }

    void spawn(Awaitable<void> task);
    void cancel();
    // Waits until no task is left.
    Awaitable<void> join();
    [[nodiscard]] bool empty() const noexcept;

  private:
    struct State;
    std::shared_ptr<State> state_;
};

}  // namespace noid::vm
