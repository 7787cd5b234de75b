#include "launcher/user_pool.hpp"

#include <algorithm>
#include <mutex>
#include <utility>
#include <vector>

namespace noid::launcher {

struct UserPool::State {
    UserRange range;
    std::mutex mutex;
    std::vector<bool> taken;  // under `mutex`
    std::size_t next = 0;     // where to look first, under `mutex`: an id rests before it is given again
};

UserPool::UserPool(UserRange range) : state_{std::make_shared<State>()} {
    state_->range = range;
    state_->taken.resize(range.count);
}

UserPool::Lease UserPool::lend(std::shared_ptr<State> state, std::uint32_t index) {
    const uid_t id = state->range.first + index;
    const auto give_back = [state = std::move(state), index](const Credentials* credentials) {
        delete credentials;
        const std::scoped_lock lock{state->mutex};
        state->taken[index] = false;
    };
    return Lease{new Credentials{.user = id, .group = id}, give_back};
}

Result<UserPool::Lease> UserPool::take() {
    std::uint32_t index = 0;
    {
        const std::scoped_lock lock{state_->mutex};
        auto& taken = state_->taken;
        auto free = std::find(taken.begin() + static_cast<std::ptrdiff_t>(state_->next), taken.end(), false);
        if (free == taken.end()) free = std::find(taken.begin(), taken.end(), false);
        if (free == taken.end())
            return fail(Errc::limit_exceeded, "all user ids for confined processes are in use");
        *free = true;
        index = static_cast<std::uint32_t>(free - taken.begin());
        state_->next = (index + 1) % taken.size();
    }
    return lend(state_, index);
}

Result<UserPool::Lease> UserPool::take(uid_t user) {
    const auto index = user - state_->range.first;
    {
        const std::scoped_lock lock{state_->mutex};
        if (user < state_->range.first || index >= state_->taken.size() || state_->taken[index])
            return fail(Errc::conflict, "user " + std::to_string(user) + " is not one to be had");
        state_->taken[index] = true;
    }
    return lend(state_, index);
}

}  // namespace noid::launcher
