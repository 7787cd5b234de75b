#include "cli/task_group.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/system/system_error.hpp>
#include <utility>

namespace noid::cli {
namespace {

bool is_cancellation(const std::exception_ptr& thrown) {
    try {
        std::rethrow_exception(thrown);
    } catch (const boost::system::system_error& error) {
        return error.code() == asio::error::operation_aborted;
    } catch (...) {
        return false;
    }
}

}  // namespace

void TaskGroup::spawn(Awaitable<void> task) {
    const auto place = running_.emplace(running_.end());
    asio::co_spawn(executor_, std::move(task),
                   asio::bind_cancellation_slot(place->slot(), [this, place](std::exception_ptr thrown) {
                       running_.erase(place);
                       if (thrown && !failure_ && !is_cancellation(thrown)) failure_ = thrown;
                       ended_.notify();
                   }));
}

void TaskGroup::cancel() {
    for (auto each = running_.begin(); each != running_.end();) {
        const auto next = std::next(each);  // a task may end, and leave the list, within emit()
        each->emit(asio::cancellation_type::terminal);
        each = next;
    }
}

Awaitable<void> TaskGroup::join(std::size_t most) {
    while (running_.size() > most) co_await ended_.wait();
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

}  // namespace noid::cli
