#include "api/watchdog.hpp"

#include <utility>

namespace noid::api {

Watchdog::Watchdog(asio::any_io_executor executor, std::function<void()> expired)
    : state_{std::make_shared<State>(asio::steady_timer{std::move(executor)}, std::move(expired))} {}

void Watchdog::expires_after(Clock::duration duration) {
    state_->deadline = Clock::now() + duration;
    if (state_->deadline < state_->armed) arm(state_);
}

void Watchdog::expires_never() noexcept {
    state_->deadline = Clock::time_point::max();
}

void Watchdog::arm(const std::shared_ptr<State>& state) {
    state->armed = state->deadline;
    state->timer.expires_at(state->armed);
    state->timer.async_wait([weak = std::weak_ptr{state}](const boost::system::error_code& error) {
        const auto self = weak.lock();
        if (!self || error) return;  // gone, or armed anew
        self->armed = Clock::time_point::max();
        if (self->deadline == Clock::time_point::max()) return;
        if (Clock::now() < self->deadline) {
            arm(self);
        } else {
            self->deadline = Clock::time_point::max();
            self->expired();
        }
    });
}

}  // namespace noid::api
