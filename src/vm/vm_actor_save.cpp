// How a VM is saved: checkpoints, and suspension to disk.
#include <fcntl.h>
#include <fmt/format.h>

#include <chrono>

#include "base/file.hpp"
#include "base/log.hpp"
#include "base/random.hpp"
#include "vm/checkpoint_hasher.hpp"
#include "vm/race.hpp"
#include "vm/suspension_files.hpp"
#include "vm/vm_actor.hpp"
#include "vm/vm_operation.hpp"

namespace noid::vm {

using namespace std::chrono_literals;

namespace {

namespace fs = std::filesystem;

constexpr std::size_t longest_label = 256;

// Blocks that clones share have to be on the disk: better now than when the guest stands still.
Result<void> write_out(const fs::path& disk, const volume::Volume& volume) {
    if (!volume.clones_are_free()) return {};
    const auto file = open_file(disk, O_RDONLY);
    if (!file) return fail(file.error());
    return sync_data(*file);
}

std::int64_t unix_us() {
    return std::chrono::duration_cast<std::chrono::microseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
}

}  // namespace

SnapshotConfig VmActor::describe_snapshot() const {
    SnapshotConfig config;
    config.id = random_hex(8);
    config.vm_id = record_.id;
    config.vm_name = record_.name.text();
    config.parent = status_.lineage.parent;
    config.has_network = status_.slot.has_value();
    config.cpus = record_.cpus;
    config.memory = record_.memory;
    config.disk = record_.disk;
    config.image = record_.image;
    config.network = network_settings();
    config.resources = resources();
    config.layout = status_.layout;
    config.env = record_.env;
    config.set_vmm(host_.vmm.description());
    if (agent_) config.agent_version = agent_->version;
    config.created_us = unix_us();
    return config;
}

// The memory that an incremental save writes its changes over, put into the VM's directory. False: there
// is none, and everything is written.
Awaitable<Result<bool>> VmActor::lay_out_basis() {
    auto work = [basis = status_.lineage.basis, parent = status_.lineage.parent, directory = directory(),
                 checkpoints = tenant_->checkpoints.directory(), vm = record_.name.text(),
                 &volume = host_.volume]() -> Result<bool> {
        remove_unfinished_save(directory);
        fs::path from;
        switch (basis) {
            case Lineage::Basis::none:
                return false;
            case Lineage::Basis::woken:
                from = directory / memory_file;
                break;
            case Lineage::Basis::parent:
                from = checkpoints / vm / parent / memory_file;
                break;
        }
        auto cloned = clone_file(volume, from, directory / saving_memory);
        if (cloned) return true;
        if (cloned.error().code == Errc::not_found) return false;  // the checkpoint was removed
        return fail(std::move(cloned.error()));
    };
    co_return co_await on_pool(host_.files, std::move(work));
}

// Brings a guest that this operation paused back to running.
Awaitable<Result<void>> VmActor::go_on(std::shared_ptr<Guest> guest) {
    auto resumed = co_await guest->machine->resume();
    // A VMM that was still busy with the save takes it after that, and whether it has is known only from it.
    if (!resumed && resumed.error().code == Errc::timed_out) resumed = co_await guest->machine->resume();
    if (!resumed && resumed.error().code != Errc::conflict) {
        enter(State::paused, "it could not be resumed: " + resumed.error().what);
        co_return fail(std::move(resumed.error()).at("resume after saving"));
    }
    take_up_traffic(*guest);
    co_return Result<void>{};
}

// Saves memory and devices into saving_memory and saving_state, and lets `with_disk` clone the disk of
// the same instant. When it fails the VM goes on as before.
Awaitable<Result<VmActor::Instant>> VmActor::save_instant(std::shared_ptr<Guest> guest,
                                                          std::function<Result<void>()> with_disk,
                                                          AfterSave after) {
    // Before anything is written: a first save clones nothing that would look.
    auto look = [&volume = host_.volume] { return volume.has_room(); };
    if (auto room = co_await on_pool(host_.files, std::move(look)); !room)
        co_return fail(std::move(room.error()));
    auto incremental = co_await lay_out_basis();
    if (!incremental) co_return fail(std::move(incremental.error()));
    const bool was_running = status_.state != State::paused;
    const auto kind = *incremental ? vmm::SnapshotKind::incremental : vmm::SnapshotKind::full;
    const vmm::SnapshotFiles files{saving_memory, saving_state};
    // The VMM counts changes from here on, so unless these files are published there is nothing to write
    // them over.
    status_.lineage.basis = Lineage::Basis::none;
    if (was_running) {
        auto disk_out = [disk = directory() / disk_file, &volume = host_.volume] {
            return write_out(disk, volume);
        };
        auto ahead = co_await on_pool(host_.files, std::move(disk_out));
        if (ahead) ahead = co_await guest->machine->save_ahead(files, kind);
        if (!ahead) co_return fail(std::move(ahead.error()));
    }
    // Between two frames, so that the stream is whole wherever the guest wakes. An agent that is away has
    // no frame on its way.
    if (was_running) (void)co_await guest->channel->hold_traffic();
    const auto began = std::chrono::steady_clock::now();
    Result<void> paused;
    if (was_running) paused = co_await guest->machine->pause();
    Result<vmm::SaveReport> report = fail(Errc::internal, "not saved");
    if (!paused) report = fail(std::move(paused.error()).at("pause"));
    if (paused) {
        auto clone_disk = [](asio::thread_pool& pool,
                             std::function<Result<void>()> work) -> Awaitable<Result<void>> {
            co_return co_await on_pool(pool, std::move(work));
        };
        auto [saved, disk] = co_await both<vmm::SaveReport, void>(guest->machine->save(files, kind),
                                                                  clone_disk(host_.files, with_disk));
        report = std::move(saved);
        if (report && !disk) report = fail(std::move(disk.error()).at("clone the disk"));
    }
    if (auto go = reached("save:paused"); !go) report = fail(std::move(go.error()));
    if (was_running && (!report || after == AfterSave::go_on)) {
        if (auto resumed = co_await go_on(guest); !resumed) co_return fail(std::move(resumed.error()));
    }
    if (!report) co_return fail(std::move(report.error()));
    const auto took = std::chrono::steady_clock::now() - began;
    co_return Instant{*report, std::chrono::duration_cast<std::chrono::microseconds>(took)};
}

Awaitable<void> VmActor::drop_unfinished_save() {
    auto clean = [directory = directory()] { remove_unfinished_save(directory); };
    co_await on_pool(host_.files, std::move(clean));
}

// Notes in the journal that `operation` has come to `step`: from here on the next start of the server
// finishes it instead of taking it back.
Awaitable<Result<void>> VmActor::commit_to(std::int64_t intent, std::string operation, std::string step,
                                           IntentData data) {
    data.step = step;
    auto query = [intent, text = data.to_json()](store::TenantDatabase& database) {
        return database.amend(intent, text);
    };
    if (auto noted = co_await in_database(std::move(query)); !noted) co_return noted;
    co_return reached(operation + ":" + step);
}

// The operation is given up before that: a VM that it has paused goes on.
Awaitable<void> VmActor::take_back(std::int64_t intent, std::shared_ptr<Guest> guest, bool was_running) {
    if (guest && guest == guest_ && was_running && status_.state == State::running)
        (void)co_await go_on(guest);
    (void)co_await conclude(intent);
}

// Room for a save: all of the memory where it is written anew. What an incremental save will write is not
// known before; it counts once it is written.
Awaitable<Result<Quota::Claim>> VmActor::claim_for_save(bool with_disk) {
    const bool anew = status_.lineage.basis == Lineage::Basis::none || !host_.volume.clones_are_free();
    const MiB memory = guest_ && anew ? record_.memory : MiB{0};
    const fs::path disk = with_disk ? directory() / disk_file : fs::path{};
    co_return co_await claim_disk(memory, disk);
}

// --- checkpoint --------------------------------------------------------------------------------------

Awaitable<Result<CheckpointView>> VmActor::checkpoint(CheckpointRequest request) {
    auto self = shared_from_this();
    auto operation = [self, &request]() -> Awaitable<Result<CheckpointView>> {
        // From here on it is carried through, whoever still waits for it.
        co_await ignore_cancellation();
        auto saved =
            co_await self->checkpoint_now(random_hex(8), std::move(request), Maker::person, AfterSave::go_on);
        if (!saved) co_return fail(std::move(saved.error()));
        co_return saved->view();
    };
    auto saved = co_await run_operation(operation);
    if (!saved)
        co_return fail(std::move(saved.error()).at(fmt::format("checkpoint VM '{}'", record_.name.text())));
    co_return saved;
}

Awaitable<Result<SnapshotConfig>> VmActor::save_for_fork(std::string id) {
    auto self = shared_from_this();
    auto operation = [self, &id]() -> Awaitable<Result<SnapshotConfig>> {
        co_await ignore_cancellation();
        co_return co_await self->checkpoint_now(std::move(id), CheckpointRequest{{}, "fork"}, Maker::server,
                                                AfterSave::go_on);
    };
    co_return co_await run_operation(operation);
}

// Under a turn, not to be cancelled. Also used by what needs a checkpoint on its way.
Awaitable<Result<SnapshotConfig>> VmActor::checkpoint_now(std::string id, CheckpointRequest request,
                                                          Maker maker, AfterSave after) {
    switch (status_.state) {
        case State::running:
        case State::paused:
            if (!guest_) co_return refuse("saved");
            break;
        case State::suspended:
        case State::stopped:
        case State::dead:
            break;
        case State::creating:
        case State::starting:
        case State::stopping:
        case State::destroying:
            co_return refuse("saved");
    }
    if (request.label.size() > longest_label) {
        co_return fail(Errc::invalid, fmt::format("a label has at most {} bytes, this one has {}",
                                                  longest_label, request.label.size()));
    }
    auto claim = co_await claim_for_save(true);
    if (!claim) co_return fail(std::move(claim.error()));
    auto name = tenant_->checkpoints.hold_name(record_.name, request.name);
    if (!name) co_return fail(std::move(name.error()));
    SnapshotConfig config = describe_snapshot();
    config.id = std::move(id);
    config.name = std::move(request.name);
    config.label = std::move(request.label);
    config.automatic = maker == Maker::server;

    auto intent = co_await journal("checkpoint", IntentData{record_.id, {}, config.id});
    if (!intent) co_return fail(std::move(intent.error()));
    auto published = co_await publish_checkpoint(config, after);
    if (published) {
        status_.lineage.parent = config.id;
        if (guest_) status_.lineage.basis = Lineage::Basis::parent;
        tenant_->checkpoints.put(config);
        host_.hasher.add(tenant_, config);
        log::info("checkpoint made", {{"vm", record_.name.text()},
                                      {"user", tenant_->user_name},
                                      {"checkpoint", config.id},
                                      {"paused_us", std::to_string(config.paused.count())}});
    } else {
        co_await drop_unfinished_save();
    }
    auto noted = co_await conclude(*intent);
    if (!published) co_return fail(std::move(published.error()));
    // The checkpoint exists: its directory is the truth.
    if (!noted) log::warn("checkpoint not concluded in the journal", {{"reason", noted.error().full()}});
    publish();
    co_return config;
}

Awaitable<Result<void>> VmActor::publish_checkpoint(SnapshotConfig& config, AfterSave after) {
    if (auto go = reached("checkpoint:journalled"); !go) co_return go;
    auto begin = [parent = tenant_->checkpoints.directory(), id = config.id] {
        return SnapshotDraft::create(parent, id);
    };
    auto draft = co_await on_pool(host_.files, std::move(begin));
    if (!draft) co_return fail(std::move(draft.error()));

    // Not one expression: g++ 12 destroys the result of a conditional co_await twice.
    Result<void> filled;
    if (guest_) {
        filled = co_await fill_from_guest(*draft, config, after);
    } else {
        filled = co_await fill_from_disk(*draft, config);
    }
    if (filled) filled = reached("checkpoint:saved");
    if (filled) {
        auto publish_draft = [&draft, &config, target = tenant_->checkpoints.place_of(config)] {
            return draft->publish(config, target);
        };
        filled = co_await on_pool(host_.files, std::move(publish_draft));
    }
    if (!filled) {
        auto discard = [&draft] { const SnapshotDraft gone = std::move(*draft); };
        co_await on_pool(host_.files, std::move(discard));
        co_return filled;
    }
    co_return reached("checkpoint:published");
}

Awaitable<Result<void>> VmActor::fill_from_guest(SnapshotDraft& draft, SnapshotConfig& config,
                                                 AfterSave after) {
    const fs::path from = directory();
    const fs::path to = draft.directory();
    auto with_disk = [from, to, &volume = host_.volume] {
        return clone_file(volume, from / disk_file, to / disk_file);
    };
    auto instant = co_await save_instant(guest_, with_disk, after);
    if (!instant) co_return fail(std::move(instant.error()));
    config.memory_bytes_written = instant->report.bytes_written;
    config.paused = instant->paused;
    auto move = [from, to] { return move_saved_memory(from, to); };
    co_return co_await on_pool(host_.files, std::move(move));
}

// A VM without a process: what it is lies on the disk already.
Awaitable<Result<void>> VmActor::fill_from_disk(SnapshotDraft& draft, SnapshotConfig& config) {
    config.has_memory = status_.state == State::suspended;
    auto work = [suspended = config.has_memory, &config, from = directory(), to = draft.directory(),
                 &volume = host_.volume]() -> Result<void> {
        if (!suspended) return clone_file(volume, from / disk_file, to / disk_file);
        const auto present = read_snapshot(from);
        if (!present) return fail(present.error());
        config.has_network = present->has_network;
        config.vmm = present->vmm;
        config.vmm_version = present->vmm_version;
        config.accelerator = present->accelerator;
        config.cpu_fingerprint = present->cpu_fingerprint;
        config.agent_version = present->agent_version;
        return unfold_snapshot(volume, from, to);
    };
    co_return co_await on_pool(host_.files, std::move(work));
}

// --- suspend -----------------------------------------------------------------------------------------

Awaitable<Result<void>> VmActor::suspend() {
    auto self = shared_from_this();
    auto operation = [self]() -> Awaitable<Result<void>> {
        if (self->status_.state == State::suspended) co_return Result<void>{};
        co_await ignore_cancellation();
        co_return co_await self->suspend_now();
    };
    auto suspended = co_await run_operation(operation);
    if (!suspended)
        co_return fail(std::move(suspended.error()).at(fmt::format("suspend VM '{}'", record_.name.text())));
    co_return suspended;
}

Awaitable<Result<void>> VmActor::suspend_now() {
    const auto suspended = next(status_.state, Event::suspended);
    if (!suspended || !guest_) co_return refuse("suspended");
    const bool was_running = status_.state == State::running;
    auto claim = co_await claim_for_save(false);
    if (!claim) co_return fail(std::move(claim.error()));
    IntentData data{record_.id, status_.process};
    auto intent = co_await journal("suspend", data);
    if (!intent) co_return fail(std::move(intent.error()));
    auto guest = guest_;
    auto saved = co_await save_for_suspension(guest);
    if (saved) saved = co_await commit_to(*intent, "suspend", suspension_saved, std::move(data));
    if (!saved) {
        co_await drop_unfinished_save();
        co_await take_back(*intent, guest, was_running);
        co_return saved;
    }
    // The saved instant is complete: from here it is only finished, by us or by the next start.
    if (auto ended = co_await end_process_of_vm(0ms); !ended) co_return ended;
    co_await detach_guest();
    if (auto go = reached("suspend:ended"); !go) co_return go;
    auto settle = [directory = directory()] { return finish_suspension(directory); };
    if (auto settled = co_await on_pool(host_.files, std::move(settle)); !settled) co_return settled;
    if (auto go = reached("suspend:settled"); !go) co_return go;
    co_await let_slot_sleep();
    status_.started_unix.reset();
    status_.lineage.basis = Lineage::Basis::woken;
    enter(*suspended, "");
    // It is: recovery knows a suspension that was finished but not concluded.
    if (auto noted = co_await conclude(*intent); !noted)
        log::warn("suspension not concluded in the journal",
                  {{"vm", record_.name.text()}, {"reason", noted.error().full()}});
    co_return Result<void>{};
}

Awaitable<Result<void>> VmActor::save_for_suspension(std::shared_ptr<Guest> guest) {
    SnapshotConfig config = describe_snapshot();
    auto nothing = []() -> Result<void> { return {}; };
    auto instant = co_await save_instant(guest, nothing, AfterSave::stay_paused);
    if (!instant) co_return fail(std::move(instant.error()));
    config.memory_bytes_written = instant->report.bytes_written;
    config.paused = instant->paused;
    auto write = [config, directory = directory()] { return complete_save(directory, config); };
    co_return co_await on_pool(host_.files, std::move(write));
}

}  // namespace noid::vm
