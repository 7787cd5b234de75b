#include "vm/task_group.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/dispatch.hpp>
#include <exception>
#include <vector>

#include "base/log.hpp"
#include "vm/race.hpp"

namespace noid::vm {

struct TaskGroup::State {
    State(asio::any_io_executor executor, std::string group_name)
        : strand{executor}, name{std::move(group_name)}, one_ended{executor} {}

    asio::any_io_executor strand;
    std::string name;
    std::list<std::shared_ptr<asio::cancellation_signal>> running;
    Broadcast one_ended;
};

TaskGroup::TaskGroup(asio::any_io_executor strand, std::string name)
    : state_{std::make_shared<State>(std::move(strand), std::move(name))} {}

void TaskGroup::spawn(Awaitable<void> task) {
    auto signal = std::make_shared<asio::cancellation_signal>();
    state_->running.push_back(signal);
    auto ended = [state = state_, signal](std::exception_ptr thrown) {
        std::erase(state->running, signal);
        if (thrown && !detail::is_cancellation(thrown)) log::exception(state->name, thrown);
        state->one_ended.notify();
    };
    asio::co_spawn(state_->strand, std::move(task),
                   asio::bind_cancellation_slot(signal->slot(), std::move(ended)));
}

void TaskGroup::cancel() {
    // On the strand at once. The destructor calls this too, and whoever lets go of the group last may be
    // elsewhere, while a task is just ending.
    asio::dispatch(state_->strand, [state = state_] {
        // A copy: a task may end, and leave the list, while it is being told.
        const std::vector signals(state->running.begin(), state->running.end());
        for (const auto& signal : signals) signal->emit(asio::cancellation_type::terminal);
    });
}

Awaitable<void> TaskGroup::join() {
    while (!state_->running.empty()) co_await state_->one_ended.wait();
}

bool TaskGroup::empty() const noexcept {
    return state_->running.empty();
}

}  // namespace noid::vm
