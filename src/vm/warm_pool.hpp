#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "vm/engine.hpp"
#include "vm/host.hpp"
#include "vm/stray_processes.hpp"
#include "vm/task_group.hpp"
#include "vm/warm_vm.hpp"

namespace noid::vm {

// VMs that were woken from templates and golden ahead of time, so that a create has only to let one run
// (server.toml, [pool]). They belong to nobody and count against nobody's quota until one is borrowed and
// kept.
//
// Refilled one at a time, while no VM is being made. Never more than [pool] memory, counted as if every VM
// had touched all of its own; nothing is added where the host would be left with little, and all go when
// programs of the host wait for memory; one goes when a user's VM needs what it holds. VMs whose template was
// replaced, evicted or no longer fits are ended.
//
// They live in <storage>/warm/<id>/. A server that ends takes them along; what one that was killed left is
// removed by the next. The members are called from anywhere unless they say otherwise.
class WarmPool : public std::enable_shared_from_this<WarmPool> {
  public:
    // `place`: the directory for them. `host` may be still on its way.
    WarmPool(asio::io_context& loop, Host& host, std::filesystem::path place);

    // Ends and removes what an earlier server left. Once, at the start.
    Awaitable<Result<void>> remove_remains(std::shared_ptr<const WorkingDirectories> running);
    // Begins to fill. Once, when the network knows which slots are taken.
    void start();
    // Ends all of them. When every loan has come to its end.
    Awaitable<void> close();

    [[nodiscard]] bool is_wanted() const noexcept;

    // While this exists nothing is refilled.
    class Busy;
    [[nodiscard]] Busy busy();

    // A VM that was woken from exactly this snapshot; empty when there is none.
    class Loan;
    [[nodiscard]] Loan borrow(const Origin& origin);
    // A create that could have had one had to wake its template.
    void count_missed();

    // Ends one, so that what it holds (a place on the network, a user id) is free. False: there is none.
    Awaitable<bool> give_way();
    // Tries again whenever limit_exceeded was the answer and a VM of the pool gave way.
    template <class Attempt>
    auto with_room_made(Attempt attempt) -> std::invoke_result_t<Attempt&> {
        while (true) {
            auto done = co_await attempt();
            if (done || done.error().code != Errc::limit_exceeded) co_return done;
            const bool gave_way = co_await give_way();
            if (!gave_way) co_return done;
        }
    }

    [[nodiscard]] WarmNumbers numbers() const;

  private:
    using Clock = std::chrono::steady_clock;
    // After a failure a template is left alone for a while.
    struct Setback {
        Clock::time_point until;
        std::chrono::seconds next_wait{};
    };

    // On the strand.
    Awaitable<void> keep_filled();
    Awaitable<void> wait_for_quiet();
    Awaitable<bool> improve();
    Awaitable<bool> add(const Origin& origin);
    Awaitable<void> follow_templates();
    Awaitable<void> yield_to_pressure();
    Awaitable<void> watch(std::shared_ptr<WarmVm> vm);
    Awaitable<void> end(std::shared_ptr<WarmVm> vm);
    void end_all();
    Awaitable<bool> sleep_until(Clock::time_point when);
    void set_back(const std::string& snapshot);
    [[nodiscard]] bool is_set_back(const std::string& snapshot) const;
    [[nodiscard]] Clock::time_point next_try() const;

    void look_again();
    bool take_out(const std::shared_ptr<WarmVm>& vm);
    void finished_creating();
    void take_back(std::shared_ptr<WarmVm> vm, bool untouched);
    void count_given();
    [[nodiscard]] MiB memory_locked() const;

    Host& host_;
    const std::filesystem::path place_;
    const asio::any_io_executor strand_;
    TaskGroup tasks_;

    // On the strand.
    asio::steady_timer alarm_;
    bool look_again_ = false;
    bool closing_ = false;
    bool closed_ = false;
    std::size_t ending_ = 0;  // VMs that still take up memory
    Clock::time_point quiet_from_{};
    Clock::time_point calm_from_{};            // no memory pressure was felt after it
    std::map<std::string, Setback> setbacks_;  // by the snapshot's id

    std::atomic<std::size_t> creating_{0};
    mutable std::mutex mutex_;
    std::vector<std::shared_ptr<WarmVm>> ready_;  // guarded by mutex_
    WarmNumbers counted_;                         // guarded by mutex_
};

class WarmPool::Busy {
  public:
    Busy(Busy&& other) noexcept = default;
    Busy& operator=(Busy&&) = delete;
    ~Busy() {
        if (pool_) pool_->finished_creating();
    }

  private:
    friend class WarmPool;
    explicit Busy(std::shared_ptr<WarmPool> pool) noexcept : pool_{std::move(pool)} {}
    std::shared_ptr<WarmPool> pool_;  // nullptr: moved away, or nothing is kept ready
};

// A VM taken out of the pool. Goes back to it, or is ended once it was touched, unless it is kept.
class WarmPool::Loan {
  public:
    Loan() = default;
    Loan(Loan&& other) noexcept = default;
    Loan& operator=(Loan&& other) noexcept {
        std::swap(pool_, other.pool_);
        std::swap(vm_, other.vm_);
        std::swap(untouched_, other.untouched_);
        return *this;
    }
    ~Loan() {
        if (vm_) pool_->take_back(std::move(vm_), untouched_);
    }

    [[nodiscard]] explicit operator bool() const noexcept { return vm_ != nullptr; }
    [[nodiscard]] WarmVm* operator->() const noexcept { return vm_.get(); }
    // Something of a user's reaches it from here on. Its place on the network is the VM's that is made.
    void touch() noexcept {
        untouched_ = false;
        if (vm_) vm_->give_slot_away();
    }
    // Its directory and machine are a VM's now. On its strand.
    [[nodiscard]] WarmVm::Machine keep() {
        pool_->count_given();
        return std::exchange(vm_, nullptr)->release();
    }
    // Of no use: ends it.
    Awaitable<void> discard() {
        const auto vm = std::exchange(vm_, nullptr);
        co_await vm->end();
    }

  private:
    friend class WarmPool;
    Loan(std::shared_ptr<WarmPool> pool, std::shared_ptr<WarmVm> vm) noexcept
        : pool_{std::move(pool)}, vm_{std::move(vm)} {}
    std::shared_ptr<WarmPool> pool_;
    std::shared_ptr<WarmVm> vm_;
    bool untouched_ = true;
};

}  // namespace noid::vm
