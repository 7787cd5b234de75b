// How a VM wakes from a snapshot: out of a suspension, put back to a checkpoint, or made as a clone.
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <exception>

#include "base/log.hpp"
#include "base/random.hpp"
#include "vm/race.hpp"
#include "vm/suspension_files.hpp"
#include "vm/vm_actor.hpp"
#include "vm/vm_operation.hpp"

namespace noid::vm {

using namespace std::chrono_literals;

// Wakes the machine whose snapshot lies in the VM's directory. `ran` says whether the guest has run: then
// its disk has moved on and the snapshot is of no use any more.
Awaitable<Result<void>> VmActor::wake_machine(SnapshotConfig config, Boot boot, bool& ran) {
    // The slot of one that slept may have been lost meanwhile; then it gets another.
    if (config.has_network && (!status_.slot || slot_sleeps_)) {
        auto slot = co_await acquire_place();
        if (!slot) co_return fail(std::move(slot.error()));
        if (!*slot) {
            co_return fail(Errc::unavailable, "it was saved with a network, and there is none now: " +
                                                  host_.network.unavailable_reason());
        }
        status_.slot = std::move(*slot);
    }
    status_.layout = config.layout;
    auto waking = spec();
    waking.saved_disk_limit = config.resources.disk;
    const vmm::SnapshotFiles files;
    auto restore = [this, &waking, &files] {
        return host_.vmm.restore(waking, files, vmm::Vmm::Wake::paused);
    };
    auto machine = co_await host_.warm.with_room_made(restore);
    if (!machine) co_return fail(std::move(machine.error()));
    attach_guest(std::move(*machine));
    co_await settle_balloon(config.resources.balloon);
    if (auto go = reached("wake:loaded"); !go) co_return go;
    if (boot != Boot::clone) {
        // Before the guest runs: whoever finds this row with its process alive takes it over as it is.
        VmStatus running = status_;
        running.state = State::running;
        auto query = [this, row = running.to_row()](store::TenantDatabase& database) {
            return database.update_runtime(record_.id, row);
        };
        auto noted = co_await in_database(std::move(query));
        if (!noted) co_return noted;
    }
    ran = true;
    co_return co_await run_and_come_up(boot);
}

// Lets a machine that stands still run, and makes it the VM that it is.
Awaitable<Result<void>> VmActor::run_and_come_up(Boot boot) {
    auto guest = guest_;
    if (auto resumed = co_await guest->machine->resume(); !resumed) co_return resumed;
    // Not before: a guest may drop connections that were made while it stood still.
    guest->channel->start();
    take_up_traffic(*guest);  // of a machine of the warm pool, which has been up before
    if (auto go = reached("wake:resumed"); !go) co_return go;
    auto died = [](std::shared_ptr<vmm::Machine> waking) -> Awaitable<Error> {
        const vmm::Exit exit = co_await waking->exited();
        co_return Error{Errc::unavailable, "the VMM ended while the guest was waking: " + exit.detail};
    };
    co_return co_await unless<void>(come_up(guest, boot), died(guest->machine));
}

Awaitable<Result<SnapshotConfig>> VmActor::snapshot_to_wake_from() const {
    auto read = [directory = directory()] { return read_snapshot(directory); };
    auto config = co_await on_pool(host_.files, std::move(read));
    if (!config) co_return fail(std::move(config.error()).at("read the saved memory"));
    if (const std::string obstacle = config->obstacle(host_.vmm.description()); !obstacle.empty())
        co_return fail(Errc::unsupported,
                       obstacle + "; a forced stop gives its memory up, and a start then boots its disk");
    co_return config;
}

// Wakes a suspended VM. Under a turn, not to be cancelled. When it fails before the guest ran, the VM is
// suspended as before.
Awaitable<Result<void>> VmActor::wake_now() {
    auto config = co_await snapshot_to_wake_from();
    if (!config) co_return fail(std::move(config.error()));
    const auto starting = next(status_.state, Event::start_begun);
    if (!starting) co_return refuse("woken");
    if (auto taken = take_share(); !taken) co_return taken;
    const std::string kind = std::exchange(status_.start_kind, "suspension");
    enter(*starting, "");
    bool ran = false;
    Result<void> woken = fail(Errc::cancelled, "cancelled");
    try {
        woken = co_await unless<void>(wake_machine(*config, Boot::again, ran), abandoned());
    } catch (...) {
        const std::exception_ptr thrown = std::current_exception();
        if (!detail::is_cancellation(thrown)) log::exception("wake of a VM", thrown);
    }
    if (woken) {
        co_await rouse_slot();
        enter(State::running, "");
    } else {
        const std::string reason = "it did not wake: " + woken.error().what;
        (void)co_await end_process_of_vm(0ms);
        co_await detach_guest();
        co_await end_strays();
        const auto state =
            next(status_.state, ran ? Event::vmm_crashed : Event::wake_failed).value_or(State::dead);
        if (state == State::suspended) {
            co_await let_slot_sleep();
        } else {
            co_await release_slot();
        }
        status_.started_unix.reset();
        status_.start_kind = kind;
        enter(state, reason);
    }
    auto query = [this, row = status_.to_row()](store::TenantDatabase& database) {
        return database.update_runtime(record_.id, row);
    };
    auto noted = co_await in_database(std::move(query));
    if (!woken) co_return woken;
    if (!noted) log::warn("wake not noted", {{"vm", record_.name.text()}, {"reason", noted.error().full()}});
    co_return Result<void>{};
}

// For whoever needs the VM running: at once when it is.
Awaitable<Result<void>> VmActor::wake() {
    auto self = shared_from_this();
    auto operation = [self]() -> Awaitable<Result<void>> {
        if (self->status_.state != State::suspended) co_return Result<void>{};  // another was faster
        co_await ignore_cancellation();
        auto intent = co_await self->journal("wake", IntentData{self->record_.id});
        if (!intent) co_return fail(std::move(intent.error()));
        auto woken = co_await self->wake_now();
        (void)co_await self->conclude(*intent);
        co_return woken;
    };
    auto woken = co_await run_operation(operation);
    if (!woken) co_return fail(std::move(woken.error()).at(fmt::format("wake VM '{}'", record_.name.text())));
    co_return woken;
}

// --- back to a checkpoint ------------------------------------------------------------------------------

Awaitable<Result<Restored>> VmActor::restore(Rewind rewind) {
    auto self = shared_from_this();
    auto operation = [self, &rewind]() -> Awaitable<Result<Restored>> {
        co_await ignore_cancellation();
        co_return co_await self->restore_now(std::move(rewind));
    };
    auto restored = co_await run_operation(operation);
    if (!restored)
        co_return fail(std::move(restored.error()).at(fmt::format("restore VM '{}'", record_.name.text())));
    co_return restored;
}

Awaitable<Result<Restored>> VmActor::restore_now(Rewind rewind) {
    switch (status_.state) {
        case State::running:
        case State::paused:
        case State::suspended:
        case State::stopped:
        case State::dead:
            break;
        case State::creating:
        case State::starting:
        case State::stopping:
        case State::destroying:
            co_return refuse("restored");
    }
    if (const std::string obstacle = rewind.config.obstacle(host_.vmm.description()); !obstacle.empty())
        co_return fail(Errc::unsupported, obstacle);
    if (rewind.config.cpus != record_.cpus || rewind.config.memory != record_.memory) {
        co_return fail(Errc::conflict,
                       fmt::format("the checkpoint is of a VM with {} cpus and {} MiB; make a new VM of it",
                                   rewind.config.cpus, rewind.config.memory.count));
    }
    IntentData data{record_.id, status_.process, rewind.config.id};
    auto intent = co_await journal("restore", data);
    if (!intent) co_return fail(std::move(intent.error()));

    // All that can fail without harm comes first: the new directory, then the present state.
    auto prepared = co_await prepare_successor(rewind);
    Restored restored;
    const auto guest = guest_;
    const bool was_running = status_.state == State::running;
    if (prepared && rewind.keep_present) {
        auto kept = co_await checkpoint_now(random_hex(8), CheckpointRequest{{}, "before restore"},
                                            Maker::server, AfterSave::stay_paused);
        if (kept) {
            restored.kept = kept->view();
        } else {
            prepared = fail(std::move(kept.error()).at("keep the present state"));
        }
    }
    if (prepared) prepared = co_await commit_to(*intent, "restore", restore_switching, std::move(data));
    if (!prepared) {
        auto clean = [successor = tenant_->paths.successor(record_.id)] { return remove_tree(successor); };
        (void)co_await on_pool(host_.files, std::move(clean));
        co_await take_back(*intent, guest, was_running);
        if (restored.kept) {
            auto remove = [this, id = restored.kept->id]() -> Result<void> {
                auto kept = tenant_->checkpoints.find(record_.name, id);
                return kept ? tenant_->checkpoints.remove(*kept) : Result<void>{};
            };
            if (auto removed = co_await on_pool(host_.files, std::move(remove)); !removed)
                log::warn("checkpoint of a restore is left", {{"reason", removed.error().full()}});
        }
        co_return fail(std::move(prepared.error()));
    }

    auto switched = co_await switch_to_successor(rewind.config);
    if (switched && rewind.config.has_memory) switched = co_await wake_now();
    (void)co_await conclude(*intent);
    if (switched && !rewind.config.has_memory) switched = co_await start_now();
    if (!switched && restored.kept) {
        // Back to what was kept a moment ago.
        log::warn("restore failed; the VM is put back to what it was",
                  {{"vm", record_.name.text()}, {"reason", switched.error().full()}});
        auto kept = tenant_->checkpoints.find(record_.name, restored.kept->id);
        if (kept) {
            Rewind back{*kept, tenant_->checkpoints.place_of(*kept), false};
            (void)co_await restore_now(std::move(back));
        }
    }
    if (!switched) co_return fail(std::move(switched.error()));
    if (rewind.config.has_memory) status_.start_kind = "checkpoint";
    publish();
    log::info("VM restored",
              {{"vm", record_.name.text()}, {"user", tenant_->user_name}, {"checkpoint", rewind.config.id}});
    restored.vm = view();
    co_return restored;
}

// The directory that will take the place of the VM's: files of the checkpoint, the VM's own record.
Awaitable<Result<void>> VmActor::prepare_successor(const Rewind& rewind) {
    if (auto go = reached("restore:journalled"); !go) co_return go;
    auto work = [this, &rewind, successor = tenant_->paths.successor(record_.id)]() -> Result<void> {
        if (auto removed = remove_tree(successor); !removed) return removed;
        if (::mkdir(successor.c_str(), 0700) != 0) return fail_errno(errno, "create a directory");
        auto made = unfold_snapshot(host_.volume, rewind.place, successor);
        if (made) made = write_record(successor, present_record());
        if (made) made = reserve_for_wake(successor);
        if (!made) (void)remove_tree(successor);
        return made;
    };
    auto made = co_await on_pool(host_.files, std::move(work));
    if (!made) co_return made;
    co_return reached("restore:prepared");
}

// Ends what runs and puts the successor in place. The VM is then a suspended or a stopped one.
Awaitable<Result<void>> VmActor::switch_to_successor(const SnapshotConfig& config) {
    if (auto ended = co_await end_process_of_vm(0ms); !ended) co_return ended;
    co_await detach_guest();
    if (auto go = reached("restore:ended"); !go) co_return go;
    auto work = [successor = tenant_->paths.successor(record_.id), place = directory(),
                 trash = tenant_->paths.trash(record_.id), &warden = host_.warden]() -> Result<void> {
        if (auto taken = take_place(successor, place, trash, warden); !taken) return taken;
        release_reserve(place);
        return {};
    };
    if (auto taken = co_await on_pool(host_.files, std::move(work)); !taken) co_return taken;
    if (!config.has_network || !config.has_memory) co_await release_slot();
    status_.started_unix.reset();
    status_.lineage = {config.has_memory ? Lineage::Basis::woken : Lineage::Basis::none, config.id,
                       config.id};
    enter(config.has_memory ? State::suspended : State::stopped, "");
    if (auto go = reached("restore:switched"); !go) co_return go;
    auto query = [this, row = status_.to_row()](store::TenantDatabase& database) {
        return database.update_runtime(record_.id, row);
    };
    co_return co_await in_database(std::move(query));
}

}  // namespace noid::vm
