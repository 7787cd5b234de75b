// How a VM comes to be, boots, and goes.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <exception>

#include "base/file.hpp"
#include "base/log.hpp"
#include "base/random.hpp"
#include "vm/machine_spec.hpp"
#include "vm/race.hpp"
#include "vm/stray_processes.hpp"
#include "vm/usage.hpp"
#include "vm/vm_actor.hpp"
#include "vm/vm_operation.hpp"
#include "volume/volume.hpp"

namespace noid::vm {

using namespace std::chrono_literals;

namespace {

constexpr auto identity_limit = 20s;  // for the agent to renew a guest's identity
constexpr std::uint64_t console_tail_bytes = 400;

std::int64_t clock_ns() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
}

// Guest bytes made fit to be shown in a message.
std::string printable(std::string_view bytes) {
    std::string text;
    for (const char c : bytes) {
        const bool plain = c >= 0x20 && c < 0x7f;
        if (plain) text.push_back(c);
        if (!plain && !text.empty() && text.back() != ' ') text.push_back(' ');
    }
    return text;
}

std::unexpected<Error> storage_exists(const std::filesystem::path& directory) {
    return fail(Errc::conflict,
                fmt::format("storage already exists for VM '{}'", directory.filename().string()));
}

bool is_same_place(const std::optional<Slot>& one, const std::optional<Slot>& other) {
    if (!one || !other) return !one && !other;
    return one->index == other->index && one->attachment.tap == other->attachment.tap &&
           one->attachment.netns == other->attachment.netns;
}

}  // namespace

Result<void> VmActor::reached(std::string_view step) const {
    return host_.at_step ? host_.at_step(step) : Result<void>{};
}

// Waits until the VM is being given up; then says why.
Awaitable<Error> VmActor::abandoned() {
    while (!abandoned_) co_await changed_.wait();
    co_return *abandoned_;
}

// --- make --------------------------------------------------------------------------------------------

Awaitable<Result<void>> VmActor::make(Making making) {
    auto self = shared_from_this();
    auto operation = [self, &making]() -> Awaitable<Result<void>> {
        Progress progress;
        Result<void> made = fail(Errc::cancelled, "cancelled");
        std::exception_ptr thrown;
        try {
            made = co_await unless<void>(self->build(progress, std::move(making)), self->abandoned());
        } catch (...) {
            thrown = std::current_exception();
        }
        co_await ignore_cancellation();
        if (made) co_return made;
        if (thrown && !detail::is_cancellation(thrown)) log::exception("creation of a VM", thrown);
        log::info("VM not created", {{"vm", self->record_.name.text()},
                                     {"user", self->tenant_->user_name},
                                     {"reason", made.error().full()}});
        co_await self->unmake(progress);
        co_return made;
    };
    auto made = co_await run_operation(operation);
    if (!made) co_return fail(std::move(made.error()).at(fmt::format("create VM '{}'", record_.name.text())));
    co_return made;
}

Awaitable<Result<void>> VmActor::build(Progress& progress, Making making) {
    if (auto taken = take_share(); !taken) co_return taken;
    // Named first: g++ 12 destroys temporaries of a co_await expression twice.
    const std::filesystem::path source = making.from ? making.from->place / disk_file : making.image;
    auto claim = co_await claim_disk(MiB{0}, source);
    if (!claim) co_return fail(std::move(claim.error()));
    auto intent = co_await journal("create", IntentData{record_.id});
    if (!intent) co_return fail(std::move(intent.error()));
    progress.intent = *intent;
    if (auto go_on = reached("create:journalled"); !go_on) co_return go_on;

    progress.network_asked = true;
    making.warm.touch();
    auto slot = co_await acquire_slot(!making.from || !making.from->config.has_memory ||
                                      making.from->config.has_network);
    if (!slot) co_return fail(std::move(slot.error()));
    status_.slot = std::move(*slot);
    if (auto up = co_await bring_up(progress, making); !up) co_return up;
    if (auto go_on = reached("create:answered"); !go_on) co_return go_on;

    VmStatus running = status_;
    running.state = State::running;
    if (making.replay) making.replay->answer = record_.to_json();
    auto query = [this, &progress, &making,
                  row = to_row(record_, running)](store::TenantDatabase& database) -> Result<void> {
        if (auto written = write_record(directory(), record_); !written) return written;
        return database.commit_create(progress.intent, row, making.replay);
    };
    auto committed = co_await in_database(std::move(query));
    if (!committed) co_return committed;
    // The VM exists. Nothing below may fail or be interrupted.
    enter(State::running, "");
    co_return Result<void>{};
}

Awaitable<Result<void>> VmActor::bring_up(Progress& progress, Making& making) {
    if (making.warm && !is_same_place(making.warm->slot(), status_.slot)) co_await making.warm.discard();
    if (making.warm) {
        making.from = making.warm->origin();
        auto woken = co_await take_over_warm(progress, making);
        if (woken || woken.error().code == Errc::conflict) co_return woken;
        log::warn("VM of the pool is of no use; another is woken",
                  {{"vm", record_.name.text()}, {"reason", woken.error().full()}});
        if (making.warm) co_await making.warm.discard();
        if (progress.directory_made) {
            if (auto cleared = co_await begin_anew(); !cleared) co_return cleared;
        }
    }
    if (!making.from && !making.boot) making.from = co_await find_template(making.image);
    if (auto files = co_await make_files(progress, making); !files) co_return files;
    if (auto go_on = reached("create:prepared"); !go_on) co_return go_on;
    co_return co_await wake_or_boot(progress, making);
}

// All that is left to do is to let the machine run and to tell it who it is.
Awaitable<Result<void>> VmActor::take_over_warm(Progress& progress, Making& making) {
    auto move = [from = making.warm->directory(), to = directory()]() -> Result<void> {
        if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return {};
        if (errno == EEXIST) return storage_exists(to);
        return fail_errno(errno, "put the VM's directory in place");
    };
    if (auto moved = co_await on_pool(host_.files, std::move(move)); !moved) co_return moved;
    progress.directory_made = true;
    WarmVm::Machine ready = making.warm.keep();
    attach_guest(std::move(ready.machine), std::move(ready.channel));
    status_.start_kind = "pool";
    status_.lineage.basis = Lineage::Basis::woken;
    const SnapshotConfig& config = making.from->config;
    status_.layout = config.layout;
    if (const auto limit = resources().disk; limit != config.resources.disk) {
        if (auto set = co_await guest_->machine->set_disk_limit(limit); !set) co_return set;
    }
    co_await settle_balloon(config.resources.balloon);
    if (auto go_on = reached("create:prepared"); !go_on) co_return go_on;
    co_return co_await run_and_come_up(Boot::clone);
}

Awaitable<Result<void>> VmActor::wake_or_boot(Progress& progress, Making& making) {
    if (!making.from) {
        bake_from_ = making.image;
        co_return co_await launch(progress.intent, Boot::first);
    }
    const Origin& from = *making.from;
    status_.start_kind = from.kind;
    if (from.kind == "checkpoint") status_.lineage.origin = status_.lineage.parent = from.config.id;
    if (!from.config.has_memory) co_return co_await launch(progress.intent, Boot::first);
    status_.lineage.basis = Lineage::Basis::woken;
    bool ran = false;
    auto woken = co_await wake_machine(from.config, Boot::clone, ran);
    if (woken || from.kind == "checkpoint") co_return woken;
    log::warn("template does not wake; the VM boots",
              {{"vm", record_.name.text()}, {"kind", from.kind}, {"reason", woken.error().full()}});
    status_.notice = fmt::format("the {} did not wake; booted instead", from.kind);
    auto drop = [&templates = host_.templates, &from] { templates.drop(from); };
    co_await on_pool(host_.files, std::move(drop));
    making.from.reset();
    co_return co_await boot_instead(progress, making);
}

Awaitable<Result<void>> VmActor::boot_instead(Progress& progress, Making& making) {
    if (auto cleared = co_await begin_anew(); !cleared) co_return cleared;
    bake_from_ = making.image;
    if (auto files = co_await make_files(progress, making); !files) co_return files;
    co_return co_await launch(progress.intent, Boot::first);
}

// What was woken is of no use: nothing of it is left.
Awaitable<Result<void>> VmActor::begin_anew() {
    if (auto ended = co_await end_process_of_vm(0ms); !ended) co_return ended;
    co_await detach_guest();
    co_await end_strays();
    auto clear = [directory = directory(), &warden = host_.warden] { return remove_tree(directory, warden); };
    if (auto cleared = co_await on_pool(host_.files, std::move(clear)); !cleared) co_return cleared;
    status_.start_kind = "boot";
    status_.lineage = {};
    co_return take_share();
}

Awaitable<Result<void>> VmActor::make_files(Progress& progress, Making& making) {
    auto work = [&progress, &making, directory = directory(), size = record_.disk,
                 &volume = host_.volume]() -> Result<void> {
        if (::mkdir(directory.c_str(), 0700) != 0) {
            if (errno == EEXIST) return storage_exists(directory);
            return fail_errno(errno, "create the VM's directory");
        }
        progress.directory_made = true;
        if (making.from) {
            auto unfolded = unfold_snapshot(volume, making.from->place, directory, making.from->config.id);
            // Golden is replaced and templates give way at any time.
            const bool gone =
                !unfolded && making.from->kind != "checkpoint" &&
                (unfolded.error().code == Errc::not_found || unfolded.error().code == Errc::corrupt);
            if (!gone) return unfolded;
            log::info("template went away while a VM was made; it boots",
                      {{"kind", making.from->kind}, {"reason", unfolded.error().full()}});
            for (const char* name : {disk_file, memory_file, state_file, config_file}) {
                if (auto removed = remove_tree(directory / name); !removed) return removed;
            }
            making.from.reset();
        }
        const std::filesystem::path& image = making.image;
        const auto from = open_directory(image.parent_path());
        if (!from) return fail(from.error());
        const auto to = open_directory(directory);
        if (!to) return fail(to.error());
        auto cloned = volume.clone({*from, image.filename().string()}, {*to, disk_file});
        if (!cloned) return cloned;
        const auto disk = open_file_at(*to, disk_file, O_RDWR);
        if (!disk) return fail(disk.error());
        return volume::grow(*disk, size);
    };
    co_return co_await on_pool(host_.files, std::move(work));
}

// Takes back whatever build() did, as far as it came.
Awaitable<void> VmActor::unmake(Progress progress) {
    (void)co_await end_process_of_vm(0ms);
    co_await detach_guest();
    if (progress.directory_made) co_await end_strays();
    if (progress.network_asked) co_await release_slot();
    enter(State::destroying, "");
    Result<void> removed;
    if (progress.directory_made) removed = co_await remove_files();
    auto log_removed = co_await console_->remove();
    gone_ = removed && log_removed;
    if (!gone_) {
        // The intent stays: the next start of the server removes the rest.
        log::error(
            "VM's files are left behind",
            {{"vm", record_.name.text()}, {"reason", (removed ? log_removed : removed).error().full()}});
        co_return;
    }
    if (progress.intent == 0) co_return;
    auto finished = co_await in_database(
        [id = progress.intent](store::TenantDatabase& database) { return database.finish(id); });
    if (!finished) log::warn("create not taken back in the journal", {{"reason", finished.error().full()}});
}

// --- limits ------------------------------------------------------------------------------------------

// Memory and vCPUs of the user's, until there is no process any more.
Result<void> VmActor::take_share() {
    auto share = tenant_->quota.take(record_.cpus, record_.memory);
    if (!share) return fail(std::move(share.error()));
    share_.emplace(std::move(*share));
    return {};
}

// Room for what is about to be written: `memory`, and a copy of `disk` unless clones are free.
Awaitable<Result<Quota::Claim>> VmActor::claim_disk(MiB memory, std::filesystem::path disk) {
    if (!tenant_->quota.bounds_disk()) co_return Quota::Claim{};
    auto work = [tenant = tenant_, memory, disk, &volume = host_.volume]() -> Result<Quota::Claim> {
        const auto used = space_taken(tenant->paths.directory());
        if (!used) return fail(Errc::internal, "the space that the user takes cannot be measured");
        std::uint64_t wanted = memory.bytes();
        struct stat status {};
        if (!disk.empty() && !volume.clones_are_free() && ::stat(disk.c_str(), &status) == 0)
            wanted += static_cast<std::uint64_t>(status.st_blocks) * 512;
        return tenant->quota.claim(*used, wanted);
    };
    co_return co_await on_pool(host_.files, std::move(work));
}

// --- boot --------------------------------------------------------------------------------------------

Awaitable<Result<std::optional<Slot>>> VmActor::acquire_slot(bool wanted) {
    if (!wanted) co_return std::optional<Slot>{};
    co_return co_await acquire_place();
}

Awaitable<Result<std::optional<Slot>>> VmActor::acquire_place() {
    auto acquire = [this] { return host_.network.acquire(record_.id, network_settings()); };
    co_return co_await host_.warm.with_room_made(acquire);
}

Awaitable<void> VmActor::release_slot() {
    status_.slot.reset();
    slot_sleeps_ = false;
    auto released = co_await host_.network.release(record_.id);
    if (!released) {
        log::warn("network slot not given back",
                  {{"vm", record_.name.text()}, {"reason", released.error().full()}});
    }
}

vmm::MachineSpec VmActor::spec() const {
    auto spec =
        machine_spec(host_.config, record_.id, directory(), record_.cpus, record_.memory, status_.slot);
    spec.layout = status_.layout;
    spec.disk_limit = resources().disk;
    spec.balloon = resources().balloon;
    return spec;
}

proto::Identity VmActor::identity_for(Boot boot) const {
    proto::Identity identity;
    identity.entropy = random_bytes<64>();
    identity.clock_ns = clock_ns();
    identity.hostname = record_.name.text();
    identity.machine_id = record_.machine_id;
    identity.renew_ssh_host_keys = boot != Boot::again;
    identity.new_boot_id = boot == Boot::clone;
    identity.end_sessions = boot == Boot::clone;
    if (status_.slot) identity.network = status_.slot->guest;
    identity.env = record_.env;
    return identity;
}

// Starts the VMM and waits until the guest is up and knows who it is.
Awaitable<Result<void>> VmActor::launch(std::int64_t intent, Boot boot) {
    status_.layout = vmm::newest_layout;
    const auto starting = spec();  // outlives the attempts, which only refer to it
    auto start = [this, &starting] { return host_.vmm.start(starting); };
    auto machine = co_await host_.warm.with_room_made(start);
    if (!machine) co_return fail(std::move(machine.error()));
    attach_guest(std::move(*machine));
    guest_->channel->start();
    if (auto go_on = reached("launch:started"); !go_on) co_return go_on;

    // While it boots, note which process it is.
    auto noted = in_database([intent, data = IntentData{record_.id, status_.process}.to_json()](
                                 store::TenantDatabase& database) { return database.amend(intent, data); });
    auto died = [](std::shared_ptr<vmm::Machine> booting) -> Awaitable<Error> {
        const vmm::Exit exit = co_await booting->exited();
        co_return Error{Errc::unavailable, "the VMM ended while the guest was booting: " + exit.detail};
    };
    auto [journalled, up] = co_await both<void, void>(
        std::move(noted), unless<void>(come_up(guest_, boot), died(guest_->machine)));
    if (!up) {
        const std::string said = co_await console_tail();
        if (!said.empty()) up.error().what += "; its console ends with: " + said;
        co_return fail(std::move(up.error()));
    }
    co_return journalled;
}

Awaitable<Result<void>> VmActor::come_up(std::shared_ptr<Guest> guest, Boot boot) {
    const auto limit = host_.config.guest.boot_timeout;
    auto agent = co_await guest->channel->ready(limit);
    if (!agent && agent.error().code == Errc::timed_out) {
        co_return fail(Errc::timed_out,
                       fmt::format("the guest's agent did not answer within {} s", limit.count()));
    }
    if (!agent) co_return fail(std::move(agent.error()));
    agent_ = *agent;
    if (!bake_from_.empty()) co_await bake_template(guest, std::exchange(bake_from_, {}));
    auto renewed = co_await guest->channel->renew_identity(identity_for(boot), identity_limit);
    if (!renewed) co_return fail(std::move(renewed.error()).at("give the guest its identity"));
    co_return Result<void>{};
}

Awaitable<std::string> VmActor::console_tail() {
    auto bytes = co_await console_->reader(console_tail_bytes, false)->next();
    co_return bytes ? printable(*bytes) : std::string{};
}

// --- end ---------------------------------------------------------------------------------------------

// Ends the VMM, by its handle or, when that fails, by what is recorded of it.
Awaitable<Result<void>> VmActor::end_process_of_vm(std::chrono::milliseconds grace) {
    if (guest_) {
        auto guest = guest_;
        auto killed = co_await guest->machine->kill(grace);
        if (killed) co_return killed;
        log::warn("VMM does not end by its handle",
                  {{"vm", record_.name.text()}, {"reason", killed.error().full()}});
    }
    if (!status_.process) co_return Result<void>{};
    co_return co_await end_process(host_.warden, host_.files, *status_.process, directory());
}

// Ends what was started in the VM's directory without being handed to us.
Awaitable<void> VmActor::end_strays() {
    auto look = [&warden = host_.warden, directory = directory()] { return processes_in(warden, directory); };
    const auto strays = co_await on_pool(host_.files, std::move(look));
    if (!strays) log::error("stray processes cannot be found", {{"reason", strays.error().full()}});
    if (!strays) co_return;
    for (const ProcessIdentity& process : *strays) {
        auto ended = co_await end_process(host_.warden, host_.files, process, directory());
        log::warn("stray process ended", {{"vm", record_.name.text()}, {"pid", std::to_string(process.pid)}});
        if (!ended) log::error("stray process cannot be ended", {{"reason", ended.error().full()}});
    }
}

// Moves the directory out of the way, so that the name is free at once, and removes it.
Awaitable<Result<void>> VmActor::remove_files() {
    auto work = [from = directory(), trash = tenant_->paths.trash(record_.id),
                 &warden = host_.warden]() -> Result<void> {
        if (::rename(from.c_str(), trash.c_str()) != 0 && errno != ENOENT) {
            return fail_errno(errno, "move the VM's directory away");
        }
        if (auto removed = remove_tree(trash, warden); !removed) {
            // It is in nobody's way, and the next start of the server tries again.
            log::warn("VM's files are left in the trash", {{"reason", removed.error().full()}});
        }
        return {};
    };
    co_return co_await on_pool(host_.files, std::move(work));
}

// VMs that run on them have the files they need.
Awaitable<void> VmActor::remove_checkpoints() {
    for (const SnapshotConfig& checkpoint : tenant_->checkpoints.of(record_.name)) {
        tenant_->checkpoints.erase(checkpoint.id);
    }
    auto work = [&index = tenant_->checkpoints, from = tenant_->paths.checkpoints() / record_.name.text(),
                 trash =
                     tenant_->paths.checkpoints() / fmt::format(".trash-{}", record_.id)]() -> Result<void> {
        auto unchanged = index.hold_changes();
        if (::rename(from.c_str(), trash.c_str()) != 0 && errno != ENOENT)
            return fail_errno(errno, "move the checkpoints away");
        unchanged.unlock();
        return remove_tree(trash);
    };
    auto removed = co_await on_pool(host_.files, std::move(work));
    if (!removed)
        log::warn("checkpoints are left behind",
                  {{"vm", record_.name.text()}, {"reason", removed.error().full()}});
}

Awaitable<Result<void>> VmActor::destroy() {
    auto self = shared_from_this();
    auto work = [self]() -> Awaitable<Result<void>> {
        co_await ignore_cancellation();
        if (!self->abandoned_) {
            self->abandoned_ =
                Error{Errc::conflict, fmt::format("VM '{}' is being destroyed", self->record_.name.text())};
            self->changed_.notify();
        }
        self->policy_tasks_.cancel();
        auto turn = co_await self->operations_.turn();
        if (self->gone_) co_return Result<void>{};
        co_return co_await self->destroy_now();
    };
    auto destroyed = co_await on_strand(strand_, work);
    if (!destroyed)
        co_return fail(std::move(destroyed.error()).at(fmt::format("destroy VM '{}'", record_.name.text())));
    co_return destroyed;
}

Awaitable<Result<void>> VmActor::destroy_now() {
    // A full or locked database must not keep a VM alive: destroying is what makes room. Without the
    // intent an interruption leaves a row whose files are gone, which says so and can be destroyed.
    auto intent = co_await journal("destroy", IntentData{record_.id, status_.process});
    if (!intent) log::warn("destroy not journalled", {{"reason", intent.error().full()}});
    enter(State::destroying, "");
    if (auto go_on = reached("destroy:journalled"); !go_on) co_return go_on;

    const bool had_handle = guest_ != nullptr;
    if (auto ended = co_await end_process_of_vm(0ms); !ended) co_return ended;
    co_await detach_guest();
    watchers_.cancel();
    co_await watchers_.join();
    if (!had_handle) co_await end_strays();
    if (auto go_on = reached("destroy:ended"); !go_on) co_return go_on;

    co_await release_slot();
    if (auto removed = co_await remove_files(); !removed) co_return removed;
    co_await remove_checkpoints();
    if (auto go_on = reached("destroy:removed"); !go_on) co_return go_on;
    auto log_removed = co_await console_->remove();
    if (!log_removed) log::warn("console log is left behind", {{"reason", log_removed.error().full()}});
    auto query = [this, id = intent.value_or(0)](store::TenantDatabase& database) {
        return database.commit_destroy(id, record_.id);
    };
    auto committed = co_await in_database(std::move(query));
    if (!committed) co_return committed;
    gone_ = true;
    log::info("VM destroyed", {{"vm", record_.name.text()}, {"user", tenant_->user_name}});
    co_return Result<void>{};
}

}  // namespace noid::vm
