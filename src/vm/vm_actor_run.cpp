// How a VM that exists is started, stopped, paused and resumed.
#include <fmt/format.h>

#include <chrono>
#include <exception>

#include "base/log.hpp"
#include "vm/race.hpp"
#include "vm/suspension_files.hpp"
#include "vm/vm_actor.hpp"
#include "vm/vm_operation.hpp"

namespace noid::vm {

using namespace std::chrono_literals;

namespace {

constexpr auto shutdown_request_limit = 5s;  // for the agent to take the request
constexpr auto shutdown_grace = 20s;         // for the guest to power off
constexpr auto term_grace = 2s;              // for the VMM to end by itself
constexpr auto clock_step_limit = 5s;

}  // namespace

Awaitable<Result<void>> VmActor::start() {
    auto self = shared_from_this();
    auto operation = [self]() -> Awaitable<Result<void>> { co_return co_await self->start_now(); };
    if (view().state == State::suspended) co_return co_await wake();
    auto started = co_await run_operation(operation);
    if (!started)
        co_return fail(std::move(started.error()).at(fmt::format("start VM '{}'", record_.name.text())));
    co_return started;
}

// Boots. Under a turn.
Awaitable<Result<void>> VmActor::start_now() {
    const auto starting = next(status_.state, Event::start_begun);
    if (!starting || status_.state == State::suspended) co_return refuse("started");
    if (auto taken = take_share(); !taken) co_return taken;
    auto intent = co_await journal("start", IntentData{record_.id});
    if (!intent) {
        share_.reset();
        co_return fail(std::move(intent.error()));
    }
    enter(*starting, "");
    Result<void> started = fail(Errc::cancelled, "cancelled");
    std::exception_ptr thrown;
    try {
        started = co_await unless<void>(boot_again(*intent), abandoned());
    } catch (...) {
        thrown = std::current_exception();
    }
    co_await ignore_cancellation();
    if (started) co_return started;
    if (thrown && !detail::is_cancellation(thrown)) log::exception("start of a VM", thrown);

    const Error reason = started.error();
    (void)co_await end_process_of_vm(0ms);
    co_await detach_guest();
    co_await end_strays();
    co_await release_slot();
    enter(next(status_.state, Event::start_failed).value_or(State::stopped),
          "the start failed: " + reason.what);
    if (auto undone = co_await conclude(*intent); !undone)
        log::warn("start not taken back in the database", {{"reason", undone.error().what}});
    co_return started;
}

Awaitable<Result<void>> VmActor::boot_again(std::int64_t intent) {
    auto slot = co_await acquire_slot(true);
    if (!slot) co_return fail(std::move(slot.error()));
    status_.slot = std::move(*slot);
    status_.start_kind = "boot";
    status_.lineage.basis = Lineage::Basis::none;
    auto forget = [directory = directory()] { return forget_memory(directory); };
    if (auto forgotten = co_await on_pool(host_.files, std::move(forget)); !forgotten) co_return forgotten;
    if (auto up = co_await launch(intent, Boot::again); !up) co_return up;
    VmStatus running = status_;
    running.state = State::running;
    running.reason.clear();
    auto query = [this, intent, row = running.to_row()](store::TenantDatabase& database) {
        return database.commit_runtime(intent, record_.id, row);
    };
    auto committed = co_await in_database(std::move(query));
    if (!committed) co_return committed;
    enter(State::running, "");
    co_return Result<void>{};
}

Awaitable<Result<void>> VmActor::stop(StopMode mode) {
    auto self = shared_from_this();
    auto operation = [self, mode]() -> Awaitable<Result<void>> {
        const auto stopping = next(self->status_.state, Event::stop_begun);
        if (!stopping) co_return self->refuse("stopped");
        const bool suspended = self->status_.state == State::suspended;
        if (suspended && mode == StopMode::graceful) {
            co_return fail(Errc::conflict, fmt::format("VM '{}' is suspended; resume it to shut it down, or "
                                                       "force the stop, which gives its memory up",
                                                       self->record_.name.text()));
        }
        if (auto fits = self->fits_vmm(); !fits && mode == StopMode::graceful) co_return fits;
        // From here on it is carried through, whoever still waits for it.
        co_await ignore_cancellation();
        auto intent = co_await self->journal("stop", IntentData{self->record_.id});
        if (!intent) co_return fail(std::move(intent.error()));
        const bool paused = self->status_.state == State::paused;
        self->enter(*stopping, "");
        if (mode == StopMode::graceful && self->guest_) {
            if (paused) {
                (void)co_await self->guest_->machine->resume();
                self->take_up_traffic(*self->guest_);
            }
            co_await self->shut_guest_down(self->guest_);
        }
        if (auto ended = co_await self->end_process_of_vm(term_grace); !ended) co_return ended;
        co_await self->detach_guest();
        co_await self->release_slot();
        if (suspended) {
            auto forget = [directory = self->directory()] { return forget_memory(directory); };
            auto forgotten = co_await on_pool(self->host_.files, std::move(forget));
            if (!forgotten) co_return forgotten;
        }
        self->status_.started_unix.reset();
        self->enter(next(self->status_.state, Event::guest_powered_off).value_or(State::stopped), "");
        co_return co_await self->conclude(*intent);
    };
    auto stopped = co_await run_operation(operation);
    if (!stopped)
        co_return fail(std::move(stopped.error()).at(fmt::format("stop VM '{}'", record_.name.text())));
    co_return stopped;
}

// Asks the guest to power off and waits until its VMM has ended; gives up at the deadline, or when the
// VM is to be destroyed.
Awaitable<void> VmActor::shut_guest_down(std::shared_ptr<Guest> guest) {
    auto asked = co_await within(shutdown_request_limit, guest->channel->shut_down());
    if (!asked) {
        log::info("guest does not shut down in order",
                  {{"vm", record_.name.text()}, {"reason", asked.error().what}});
        co_return;
    }
    auto ended = [](std::shared_ptr<vmm::Machine> machine) -> Awaitable<Result<void>> {
        co_await machine->exited();
        co_return Result<void>{};
    };
    auto gone = co_await unless<void>(within(shutdown_grace, ended(guest->machine)), abandoned());
    if (!gone)
        log::info("guest did not power off", {{"vm", record_.name.text()}, {"reason", gone.error().what}});
}

Awaitable<Result<void>> VmActor::pause() {
    auto self = shared_from_this();
    auto operation = [self]() -> Awaitable<Result<void>> {
        const auto paused = next(self->status_.state, Event::paused);
        if (!paused || !self->guest_) co_return self->refuse("paused");
        co_await ignore_cancellation();
        auto guest = self->guest_;
        auto intent = co_await self->journal("pause", IntentData{self->record_.id});
        if (!intent) co_return fail(std::move(intent.error()));
        const bool bare = self->host_.vmm.description().can_pause_bare;
        // Not one expression: g++ 12 destroys the result of a conditional co_await twice.
        Result<void> done;
        if (bare) {
            done = co_await self->pause_bare(guest);
        } else {
            done = co_await self->pause_with_snapshot(guest);
        }
        if (done) self->enter(*paused, "");
        auto noted = co_await self->conclude(*intent);
        co_return done ? noted : done;
    };
    auto paused = co_await run_operation(operation);
    if (!paused)
        co_return fail(std::move(paused.error()).at(fmt::format("pause VM '{}'", record_.name.text())));
    co_return paused;
}

Awaitable<Result<void>> VmActor::pause_bare(std::shared_ptr<Guest> guest) {
    // Between two frames, so that the stream is whole when it goes on. An agent that is away has no frame
    // on its way.
    (void)co_await guest->channel->hold_traffic();
    auto paused = co_await guest->machine->pause();
    if (!paused) guest->channel->resume_traffic();
    co_return paused;
}

// After a guest that was paused runs again, with what became of its agent's connection meanwhile.
void VmActor::take_up_traffic(Guest& guest) {
    if (!host_.vmm.description().connection_outlives_pause) guest.channel->reconnect();
    guest.channel->resume_traffic();
}

// For a VMM whose agent channel survives only a pause in which a snapshot was taken. Nobody needs that one.
Awaitable<Result<void>> VmActor::pause_with_snapshot(std::shared_ptr<Guest> guest) {
    auto no_disk = []() -> Result<void> { return {}; };
    auto saved = co_await save_instant(guest, no_disk, AfterSave::stay_paused);
    co_await drop_unfinished_save();
    status_.lineage.basis = Lineage::Basis::none;
    if (!saved) co_return fail(std::move(saved.error()));
    co_return Result<void>{};
}

Awaitable<Result<void>> VmActor::resume() {
    auto self = shared_from_this();
    if (view().state == State::suspended) co_return co_await wake();
    auto operation = [self]() -> Awaitable<Result<void>> {
        const auto running = next(self->status_.state, Event::resumed);
        if (!running || !self->guest_) co_return self->refuse("resumed");
        co_await ignore_cancellation();
        auto guest = self->guest_;
        auto intent = co_await self->journal("resume", IntentData{self->record_.id});
        if (!intent) co_return fail(std::move(intent.error()));
        auto done = co_await guest->machine->resume();
        if (done) {
            self->take_up_traffic(*guest);
            // The guest's clock stood still with it.
            auto stepped =
                co_await guest->channel->renew_identity(self->identity_for(Boot::again), clock_step_limit);
            if (!stepped) {
                log::warn("clock not stepped after resume",
                          {{"vm", self->record_.name.text()}, {"reason", stepped.error().what}});
            }
            self->enter(*running, "");
        }
        auto noted = co_await self->conclude(*intent);
        co_return done ? noted : done;
    };
    auto resumed = co_await run_operation(operation);
    if (!resumed)
        co_return fail(std::move(resumed.error()).at(fmt::format("resume VM '{}'", record_.name.text())));
    co_return resumed;
}

}  // namespace noid::vm
