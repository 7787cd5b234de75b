// What a VM's policy makes the server do by itself: checkpoints on a timer, suspension when idle.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "base/log.hpp"
#include "base/random.hpp"
#include "vm/vm_actor.hpp"
#include "vm/vm_operation.hpp"

namespace noid::vm {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

namespace {

constexpr std::chrono::seconds shortest_period = 10s;
constexpr std::chrono::seconds longest_period = 24h * 366;
constexpr const char* timer_label = "timer";

Result<void> check_period(std::string_view what, const std::optional<std::chrono::seconds>& period) {
    if (!period || (*period >= shortest_period && *period <= longest_period)) return {};
    return fail(Errc::invalid,
                fmt::format("{} must be from {} s to 366 days", what, shortest_period.count()));
}

}  // namespace

Awaitable<Result<void>> VmActor::set_policy(VmPolicy policy) {
    if (auto valid = check_period("the time between checkpoints", policy.checkpoint_every); !valid)
        co_return valid;
    if (auto valid = check_period("the idle time", policy.idle_suspend); !valid) co_return valid;
    if (policy.checkpoint_keep == 0) co_return fail(Errc::invalid, "at least one checkpoint must be kept");
    auto self = shared_from_this();
    auto operation = [self, policy]() -> Awaitable<Result<void>> {
        VmStatus status = self->status_;
        status.policy = policy;
        auto query = [self, row = status.to_row()](store::TenantDatabase& database) {
            return database.update_runtime(self->record_.id, row);
        };
        auto written = co_await self->in_database(std::move(query));
        if (!written) co_return written;
        self->status_.policy = policy;
        self->publish();
        self->follow_policy();
        co_return Result<void>{};
    };
    co_return co_await run_operation(operation);
}

// Begins anew with the policy as it is now.
void VmActor::follow_policy() {
    policy_tasks_.cancel();
    if (abandoned_) return;  // nobody would end them
    if (status_.policy.checkpoint_every) policy_tasks_.spawn(save_now_and_then(shared_from_this()));
    if (status_.policy.idle_suspend) policy_tasks_.spawn(suspend_when_idle(shared_from_this()));
}

// Until the next checkpoint on the timer is due: counted from the last one, so that a server that is
// restarted more often than that saves too.
std::chrono::microseconds VmActor::until_next_save() const {
    using std::chrono::microseconds;
    const microseconds every = *status_.policy.checkpoint_every;
    const auto made = tenant_->checkpoints.of(record_.name);
    const auto last = std::ranges::find_if(made.rbegin(), made.rend(), [](const SnapshotConfig& one) {
        return one.automatic && one.label == timer_label;
    });
    if (last == made.rend()) return every;
    const microseconds now =
        std::chrono::duration_cast<microseconds>(std::chrono::system_clock::now().time_since_epoch());
    return std::clamp(microseconds{last->created_us} + every - now, microseconds{0}, every);
}

Awaitable<void> VmActor::save_now_and_then(std::shared_ptr<VmActor> self) {
    asio::steady_timer timer{self->strand_};
    auto wait = self->until_next_save();
    while (true) {
        timer.expires_after(wait);
        co_await timer.async_wait(asio::use_awaitable);
        wait = *self->status_.policy.checkpoint_every;
        if (self->status_.state != State::running) continue;
        auto operation = [self]() -> Awaitable<Result<SnapshotConfig>> {
            co_await ignore_cancellation();
            co_return co_await self->checkpoint_now(random_hex(8), CheckpointRequest{{}, timer_label},
                                                    Maker::server, AfterSave::go_on);
        };
        auto saved = co_await self->run_operation(operation);
        if (!saved) {
            log::warn("checkpoint on a timer failed",
                      {{"vm", self->record_.name.text()}, {"reason", saved.error().full()}});
            continue;
        }
        auto prune = [tenant = self->tenant_, name = self->record_.name,
                      keep = self->status_.policy.checkpoint_keep]() -> Result<void> {
            auto made = tenant->checkpoints.of(name);
            std::erase_if(made, [](const SnapshotConfig& one) { return !one.automatic; });
            for (std::size_t i = 0; i + keep < made.size(); ++i) {
                if (auto removed = tenant->checkpoints.remove(made[i]); !removed) return removed;
            }
            return {};
        };
        if (auto pruned = co_await on_pool(self->host_.files, std::move(prune)); !pruned)
            log::warn("old checkpoints stay", {{"reason", pruned.error().full()}});
    }
}

// Whether somebody or something uses the guest: an attached client, a command that runs on without one, or a
// connection over its network.
Awaitable<bool> VmActor::in_use() {
    auto guest = guest_;
    if (!guest || opening_ > 0 || guest->channel->attached_sessions() > 0) co_return true;
    auto sessions = co_await guest->channel->sessions();
    // A guest that does not answer is not put to sleep.
    if (!sessions) co_return true;
    if (std::ranges::any_of(*sessions, [](const proto::SessionInfo& one) { return !one.ended; }))
        co_return true;
    if (!status_.slot) co_return false;
    // Nor is one whose connections nobody can count: it could not wake without netd either.
    auto numbers = co_await host_.network.numbers(record_.id);
    co_return !numbers || numbers->connections > 0;
}

Awaitable<void> VmActor::suspend_when_idle(std::shared_ptr<VmActor> self) {
    asio::steady_timer timer{self->strand_};
    self->last_used_ = Clock::now();
    while (true) {
        const auto idle = *self->status_.policy.idle_suspend;
        timer.expires_at(self->last_used_ + idle);
        co_await timer.async_wait(asio::use_awaitable);
        if (Clock::now() < self->last_used_ + idle) continue;
        if (self->status_.state != State::running || co_await self->in_use()) {
            self->last_used_ = Clock::now();
            continue;
        }
        auto operation = [self, idle]() -> Awaitable<Result<void>> {
            co_await ignore_cancellation();
            // Somebody may have come while this waited for its turn.
            const bool still_idle = self->opening_ == 0 && Clock::now() >= self->last_used_ + idle;
            if (self->status_.state != State::running || !still_idle) co_return Result<void>{};
            log::info("idle VM is suspended", {{"vm", self->record_.name.text()}});
            co_return co_await self->suspend_now();
        };
        auto suspended = co_await self->run_operation(operation);
        if (!suspended) {
            log::warn("idle VM not suspended",
                      {{"vm", self->record_.name.text()}, {"reason", suspended.error().full()}});
        }
        self->last_used_ = Clock::now();
    }
}

}  // namespace noid::vm
