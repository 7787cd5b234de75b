#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/fd.hpp"

namespace noid::agent {

// The agent's only thread waits here. Descriptors are watched edge-triggered: a callback must read or
// write until EAGAIN, or go on in the next turn by a timer of 0 ms. A level-triggered loop would spin on a
// virtio-serial port whose host is away, as that is readable all the time.
//
// Callbacks may add and remove watches and timers, also their own.
class EventLoop {
  public:
    using Clock = std::chrono::steady_clock;
    using Task = std::function<void()>;

    EventLoop();
    EventLoop(const EventLoop&) = delete;
    EventLoop& operator=(const EventLoop&) = delete;
    ~EventLoop();

    // Watches `fd` for EPOLLIN and EPOLLOUT while it lives. Must go before the descriptor does.
    class Watch {
      public:
        using Callback = std::function<void(std::uint32_t epoll_events)>;
        Watch() = default;
        // Terminates the agent when the kernel has no memory for it; other failures are bugs.
        Watch(EventLoop& loop, int fd, Callback callback);
        Watch(Watch&& other) noexcept;
        Watch& operator=(Watch&& other) noexcept;
        ~Watch() { reset(); }
        void reset() noexcept;

      private:
        EventLoop* loop_ = nullptr;
        int fd_ = -1;
        std::uint64_t key_ = 0;
    };

    // Calls once when it is due, in a later turn; setting it again moves it.
    class Timer {
      public:
        Timer(EventLoop& loop, Task task) : loop_{loop}, task_{std::make_shared<Task>(std::move(task))} {}
        Timer(const Timer&) = delete;
        Timer& operator=(const Timer&) = delete;
        ~Timer() { cancel(); }
        void set(std::chrono::milliseconds from_now);
        void cancel() noexcept;
        [[nodiscard]] bool is_set() const noexcept { return set_; }

      private:
        friend class EventLoop;
        EventLoop& loop_;
        std::shared_ptr<Task> task_;  // shared as callbacks are
        bool set_ = false;
        std::multimap<Clock::time_point, Timer*>::iterator place_;
    };

    // At the end of each turn.
    void after_each_turn(Task task) { after_turn_ = std::move(task); }
    // Runs `work`, which blocks, on a thread of its own, then `done` on the loop.
    void run_blocking(Task work, Task done);

    // Until stop().
    void run();
    void stop() noexcept { stopped_ = true; }

  private:
    struct Job {
        std::thread thread;
        Task done;
    };

    [[nodiscard]] int milliseconds_to_wait() const;
    void run_timers();
    void finish_jobs();

    Fd epoll_;
    Fd finished_;  // eventfd: a job is over
    // Shared with the turn that calls them: a callback may remove itself.
    std::unordered_map<std::uint64_t, std::shared_ptr<Watch::Callback>> callbacks_;
    std::uint64_t next_key_ = 1;
    std::multimap<Clock::time_point, Timer*> timers_;
    std::map<std::uint64_t, Job> jobs_;
    struct Finished;
    std::unique_ptr<Finished> finished_jobs_;
    Task after_turn_;
    bool stopped_ = false;
    Watch finished_watch_;
};

}  // namespace noid::agent
