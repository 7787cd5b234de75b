#include "agent/event_loop.hpp"

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <memory>
#include <mutex>
#include <system_error>
#include <utility>

namespace noid::agent {

struct EventLoop::Finished {
    std::mutex mutex;
    std::vector<std::uint64_t> keys;
};

EventLoop::EventLoop()
    : epoll_{::epoll_create1(EPOLL_CLOEXEC)},
      finished_{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)},
      finished_jobs_{std::make_unique<Finished>()} {
    if (!epoll_ || !finished_) throw std::system_error(errno, std::generic_category(), "event loop");
    finished_watch_ = Watch{*this, finished_.get(), [this](std::uint32_t) { finish_jobs(); }};
}

EventLoop::~EventLoop() {
    for (auto& [key, job] : jobs_) job.thread.join();
}

EventLoop::Watch::Watch(EventLoop& loop, int fd, Callback callback)
    : loop_{&loop}, fd_{fd}, key_{loop.next_key_++} {
    epoll_event event{};
    event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    event.data.u64 = key_;
    if (::epoll_ctl(loop.epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
        throw std::system_error(errno, std::generic_category(), "watch a descriptor");
    loop.callbacks_.emplace(key_, std::make_shared<Callback>(std::move(callback)));
}

EventLoop::Watch::Watch(Watch&& other) noexcept
    : loop_{std::exchange(other.loop_, nullptr)}, fd_{other.fd_}, key_{other.key_} {}

EventLoop::Watch& EventLoop::Watch::operator=(Watch&& other) noexcept {
    if (this == &other) return *this;
    reset();
    loop_ = std::exchange(other.loop_, nullptr);
    fd_ = other.fd_;
    key_ = other.key_;
    return *this;
}

void EventLoop::Watch::reset() noexcept {
    if (!loop_) return;
    ::epoll_ctl(loop_->epoll_.get(), EPOLL_CTL_DEL, fd_, nullptr);
    loop_->callbacks_.erase(key_);
    loop_ = nullptr;
}

void EventLoop::Timer::set(std::chrono::milliseconds from_now) {
    cancel();
    // Never "now": run_timers() would find it in the same turn.
    place_ = loop_.timers_.emplace(Clock::now() + from_now + std::chrono::nanoseconds{1}, this);
    set_ = true;
}

void EventLoop::Timer::cancel() noexcept {
    if (std::exchange(set_, false)) loop_.timers_.erase(place_);
}

void EventLoop::run_blocking(Task work, Task done) {
    const std::uint64_t key = next_key_++;
    Job& job = jobs_[key];
    job.done = std::move(done);
    job.thread = std::thread{[this, key, work = std::move(work)] {
        work();
        const std::lock_guard lock{finished_jobs_->mutex};
        finished_jobs_->keys.push_back(key);
        const std::uint64_t one = 1;
        [[maybe_unused]] const auto written = ::write(finished_.get(), &one, sizeof one);
    }};
}

void EventLoop::finish_jobs() {
    std::uint64_t count = 0;
    [[maybe_unused]] const auto got = ::read(finished_.get(), &count, sizeof count);
    std::vector<std::uint64_t> keys;
    {
        const std::lock_guard lock{finished_jobs_->mutex};
        keys.swap(finished_jobs_->keys);
    }
    for (const std::uint64_t key : keys) {
        auto node = jobs_.extract(key);
        node.mapped().thread.join();
        node.mapped().done();
    }
}

int EventLoop::milliseconds_to_wait() const {
    if (timers_.empty()) return -1;
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(timers_.begin()->first - Clock::now()).count();
    return static_cast<int>(std::clamp<std::int64_t>(left, 0, INT_MAX));
}

void EventLoop::run_timers() {
    // Those that a task sets now are for the next turn.
    const auto now = Clock::now();
    while (!timers_.empty() && timers_.begin()->first <= now) {
        Timer& timer = *timers_.begin()->second;
        timer.cancel();
        const auto task = timer.task_;
        (*task)();
    }
}

void EventLoop::run() {
    std::array<epoll_event, 64> events;
    while (!stopped_) {
        const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()),
                                       milliseconds_to_wait());
        if (count < 0 && errno != EINTR)
            throw std::system_error(errno, std::generic_category(), "epoll_wait");
        for (int i = 0; i < count; ++i) {
            const auto& event = events[static_cast<std::size_t>(i)];
            // Gone when an earlier callback of this turn removed it.
            const auto found = callbacks_.find(event.data.u64);
            if (found == callbacks_.end()) continue;
            const auto callback = found->second;
            (*callback)(event.events);
        }
        run_timers();
        if (after_turn_) after_turn_();
    }
}

}  // namespace noid::agent
