#include "vm/vm_actor.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/strand.hpp>
#include <chrono>
#include <exception>

#include "base/log.hpp"
#include "launcher/process.hpp"
#include "vm/race.hpp"
#include "vm/stray_processes.hpp"
#include "vm/usage.hpp"
#include "vm/vm_operation.hpp"

namespace noid::vm {

using namespace std::chrono_literals;

namespace {

constexpr auto guest_stats_limit = 1s;
constexpr auto network_numbers_limit = 1s;
constexpr auto settle_limit = 10s;  // for the agent after a wake that another server process began
constexpr auto last_console_output = 1s;

std::int64_t unix_now() {
    return std::chrono::duration_cast<std::chrono::seconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
}

bool by_the_guest(vmm::Exit::How how) {
    return how == vmm::Exit::How::guest_shutdown || how == vmm::Exit::How::guest_reboot;
}

std::string describe(const vmm::Exit& exit) {
    switch (exit.how) {
        case vmm::Exit::How::guest_shutdown:
            return "the guest powered off";
        case vmm::Exit::How::guest_reboot:
            return "the guest rebooted, which ends its machine";
        case vmm::Exit::How::killed:
            return "the VMM was killed: " + exit.detail;
        case vmm::Exit::How::crashed:
            return "the VMM crashed: " + exit.detail;
    }
    return exit.detail;
}

}  // namespace

std::shared_ptr<VmActor> VmActor::create(Host& host, std::shared_ptr<TenantContext> tenant, VmRecord record,
                                         VmStatus status, std::optional<asio::any_io_executor> strand) {
    return std::shared_ptr<VmActor>{
        new VmActor{host, std::move(tenant), std::move(record), std::move(status), std::move(strand)}};
}

VmActor::VmActor(Host& host, std::shared_ptr<TenantContext> tenant, VmRecord record, VmStatus status,
                 std::optional<asio::any_io_executor> strand)
    : host_{host},
      tenant_{std::move(tenant)},
      record_{std::move(record)},
      strand_{strand ? std::move(*strand) : asio::any_io_executor{asio::make_strand(host.loop)}},
      status_{std::move(status)},
      changed_{strand_},
      console_{ConsoleLog::create(strand_, host.files, tenant_->paths.console_log(record_.name))},
      watchers_{strand_, "VM " + record_.name.text()},
      policy_tasks_{strand_, "policy of VM " + record_.name.text()} {
    if (status_.vmm.empty()) status_.vmm = record_.vmm;
    publish();
}

// --- what others see -------------------------------------------------------------------------------

VmView VmActor::render(const Host& host, const VmRecord& record, const VmStatus& status) {
    VmView view;
    view.name = record.name.text();
    view.state = status.state;
    view.cpus = record.cpus;
    view.memory = record.memory;
    view.disk = record.disk;
    view.labels = record.labels;
    view.image = record.image;
    view.created_at = utc_text(record.created_unix);
    view.created_unix = record.created_unix;
    view.vmm = status.vmm.empty() ? record.vmm : status.vmm;
    view.start_kind = status.start_kind;
    view.origin = status.lineage.origin;
    view.network = status.network ? *status.network : record.network;
    view.ports = status.ports;
    view.resources = status.resources ? *status.resources : record.resources;
    view.reason = status.reason;
    view.warnings = record.warnings;
    if (!status.notice.empty()) view.warnings.push_back(status.notice);
    if (status.slot) view.address = status.slot->address;
    if (!has_process(status.state)) return view;
    view.started_unix = status.started_unix;
    const bool network_wanted = view.network.mode != NetworkMode::none && status.state != State::creating;
    if (network_wanted && !status.slot) {
        view.warnings.push_back("no network: " + host.network.unavailable_reason());
    }
    return view;
}

void VmActor::publish() {
    VmView view = render(host_, record_, status_);
    if (agent_) {
        view.agent_version = agent_->version;
        view.guest_os = agent_->os;
    }
    {
        const std::lock_guard lock{view_mutex_};
        view_ = std::move(view);
        process_ = status_.process;
        policy_ = status_.policy;
    }
    tenant_->revision.fetch_add(1, std::memory_order_relaxed);
}

VmPolicy VmActor::policy() const {
    const std::lock_guard lock{view_mutex_};
    return policy_;
}

// Writes an intent into the journal; nothing is done before.
Awaitable<Result<std::int64_t>> VmActor::journal(std::string operation, IntentData data) {
    co_return co_await in_database([this, &operation, &data](store::TenantDatabase& database) {
        return database.begin({0, operation, record_.name.text(), data.to_json()});
    });
}

// The operation is over: its intent ends, and the row says what the VM is now.
Awaitable<Result<void>> VmActor::conclude(std::int64_t intent) {
    auto query = [this, intent, row = status_.to_row()](store::TenantDatabase& database) {
        return database.commit_runtime(intent, record_.id, row);
    };
    co_return co_await in_database(std::move(query));
}

VmView VmActor::view() const {
    const std::lock_guard lock{view_mutex_};
    return view_;
}

std::optional<ProcessIdentity> VmActor::process() const {
    const std::lock_guard lock{view_mutex_};
    return process_;
}

void VmActor::enter(State state, std::string reason) {
    if (state != status_.state) {
        log::info("VM state", {{"vm", record_.name.text()},
                               {"user", tenant_->user_name},
                               {"from", name_of(status_.state)},
                               {"to", name_of(state)},
                               {"reason", reason}});
    }
    status_.state = state;
    status_.reason = std::move(reason);
    publish();
    changed_.notify();
}

Awaitable<Result<VmView>> VmActor::details() {
    auto self = shared_from_this();
    auto measure = [self]() -> Awaitable<Result<VmView>> {
        auto look = [self, directory = self->directory(), process = self->status_.process] {
            ProcessUsage usage;
            if (process) usage = usage_of(self->host_.warden, *process);
            return std::pair{usage, disk_usage(directory)};
        };
        auto on_host = [self,
                        look]() -> Awaitable<Result<std::pair<ProcessUsage, std::optional<std::uint64_t>>>> {
            co_return co_await on_pool(self->host_.files, look);
        };
        auto [costs, stats] = co_await both(on_host(), within(guest_stats_limit, self->guest_stats()));
        VmView view = self->view();
        if (costs) {
            view.memory_used = costs->first.memory;
            view.cpu_seconds = costs->first.cpu_seconds;
            view.disk_used = costs->second;
        }
        if (stats) {
            view.guest_memory_available = stats->memory_available;
            view.guest_disk_free = stats->disk_free;
        }
        if (auto numbers = co_await within(network_numbers_limit, self->network_numbers()))
            view.network_numbers = *numbers;
        co_await self->add_numbers(view);
        co_return view;
    };
    co_return co_await on_strand(strand_, measure);
}

Awaitable<Result<proto::GuestStats>> VmActor::guest_stats() {
    if (!guest_ || status_.state != State::running)
        co_return fail(Errc::unavailable, "the guest is not running");
    auto channel = guest_->channel;
    co_return co_await channel->stats();
}

// A machine that runs under one VMM is not carried on by another.
Result<void> VmActor::fits_vmm() const {
    const auto present = vmm::name_of(host_.vmm.description().kind);
    if (!status_.process || status_.vmm == present) return {};
    return fail(Errc::unavailable,
                fmt::format("VM '{}' runs under {}, and this server drives {}: set [vmm] kind back, or force "
                            "its stop and start it again, which boots it under {}",
                            record_.name.text(), status_.vmm, present, present));
}

std::unexpected<Error> VmActor::refuse(std::string_view wanted) const {
    if (auto fits = fits_vmm(); !fits) return fail(std::move(fits.error()));
    return fail(Errc::conflict, refusal(record_.name.text(), status_.state, wanted));
}

// --- the VMM and the agent ---------------------------------------------------------------------------

void VmActor::attach_guest(std::shared_ptr<vmm::Machine> machine) {
    auto channel = host_.make_channel(strand_, [machine] { return machine->connect_agent(); });
    attach_guest(std::move(machine), std::move(channel));
}

void VmActor::attach_guest(std::shared_ptr<vmm::Machine> machine,
                           std::shared_ptr<channel::AgentChannel> channel) {
    auto guest = std::make_shared<Guest>(machine, std::move(channel), strand_);
    guest_ = guest;
    agent_.reset();
    status_.process = machine->identity();
    status_.vmm = vmm::name_of(host_.vmm.description().kind);
    status_.started_unix = unix_now();
    guest->tasks.spawn(feed_console(machine, console_));
    watchers_.spawn(watch(shared_from_this(), guest));
}

// The VMM has ended: gives up the way to it. What it said last still reaches the console log.
Awaitable<void> VmActor::detach_guest() {
    auto guest = std::exchange(guest_, nullptr);
    agent_.reset();
    status_.process.reset();
    share_.reset();
    if (!guest) co_return;
    guest->channel->stop();
    auto drained = [](Guest& leaving) -> Awaitable<Result<void>> {
        co_await leaving.tasks.join();
        co_return Result<void>{};
    };
    (void)co_await within(last_console_output, drained(*guest));
    guest->tasks.cancel();
    co_await guest->tasks.join();
}

Awaitable<void> VmActor::feed_console(std::shared_ptr<vmm::Machine> machine,
                                      std::shared_ptr<ConsoleLog> console) {
    while (true) {
        auto bytes = co_await machine->read_console();
        if (!bytes) co_return;
        co_await console->append(std::move(*bytes));
    }
}

Awaitable<void> VmActor::watch(std::shared_ptr<VmActor> self, std::shared_ptr<Guest> guest) {
    vmm::Exit exit = co_await guest->machine->exited();
    auto turn = co_await self->operations_.turn();
    co_await self->vmm_ended(guest, std::move(exit));
}

Awaitable<void> VmActor::vmm_ended(const std::shared_ptr<Guest>& guest, vmm::Exit exit) {
    if (guest_ != guest) co_return;  // an operation ended it and has dealt with it
    const auto state =
        next(status_.state, by_the_guest(exit.how) ? Event::guest_powered_off : Event::vmm_crashed);
    if (!state) co_return;
    co_await note_end(*state, describe(exit));
}

// Nothing runs any more, without anybody having asked for it.
Awaitable<void> VmActor::note_end(State state, std::string reason) {
    co_await detach_guest();
    co_await release_slot();
    status_.started_unix.reset();
    enter(state, std::move(reason));
    auto noted = co_await in_database([this](store::TenantDatabase& database) {
        return database.update_runtime(record_.id, status_.to_row());
    });
    if (!noted) {
        log::error(
            "VM state not written",
            {{"vm", record_.name.text()}, {"user", tenant_->user_name}, {"reason", noted.error().full()}});
    }
}

// --- the server comes and goes -----------------------------------------------------------------------

Awaitable<void> VmActor::take_over(bool settle_pause) {
    auto self = shared_from_this();
    auto work = [self, settle_pause]() -> Awaitable<Result<void>> {
        auto turn = co_await self->operations_.turn();
        self->follow_policy();
        co_return co_await self->take_over_now(settle_pause);
    };
    auto taken = co_await on_strand(strand_, work);
    if (!taken) {
        log::error("VM not taken over", {{"vm", record_.name.text()}, {"reason", taken.error().full()}});
    }
}

Awaitable<Result<void>> VmActor::take_over_now(bool settle_pause) {
    if (status_.state == State::suspended) {
        slot_sleeps_ = status_.slot.has_value();
        co_await say_whether_it_can_wake();
    }
    if (!status_.process) co_return Result<void>{};
    const ProcessIdentity process = *status_.process;
    share_.emplace(tenant_->quota.take_over(record_.cpus, record_.memory));
    if (!fits_vmm()) co_return co_await leave_to_its_vmm(process);
    auto machine = co_await host_.vmm.adopt(spec(), process);
    if (!machine) {
        std::string reason = "the VMM was gone when the server started";
        if (machine.error().code != Errc::not_found) {
            reason = "the VMM could not be taken over: " + machine.error().what;
            auto ended = co_await end_process(host_.warden, host_.files, process, directory());
            if (!ended) {
                // It may run on: the next server has another try.
                enter(status_.state, reason);
                co_return fail(std::move(ended.error()).at("end a VMM that cannot be taken over"));
            }
        }
        co_await note_end(State::dead, std::move(reason));
        co_return Result<void>{};
    }
    const auto started_unix = status_.started_unix;
    attach_guest(std::move(*machine));
    status_.started_unix = started_unix;
    const bool paused = status_.state == State::paused;
    if (settle_pause) {
        // Already there answers conflict, which is as good.
        if (paused) {
            (void)co_await guest_->machine->pause();
        } else {
            (void)co_await guest_->machine->resume();
        }
    }
    // Not before: a guest may drop connections that were made while it stood still.
    if (paused) (void)co_await guest_->channel->hold_traffic();
    guest_->channel->start();
    if (settle_pause && !paused) {
        // It may have been on its way out of a snapshot, with a clock that stood still.
        auto renewed = co_await guest_->channel->renew_identity(identity_for(Boot::again), settle_limit);
        if (!renewed) {
            log::warn("clock not stepped after an interrupted operation",
                      {{"vm", record_.name.text()}, {"reason", renewed.error().what}});
        }
    }
    // The server may have ended while it was changing them.
    if (auto applied = co_await apply_network(network_settings()); !applied) {
        log::warn("network settings not confirmed",
                  {{"vm", record_.name.text()}, {"reason", applied.error().full()}});
    }
    status_.reason.clear();
    publish();
    changed_.notify();
    co_return Result<void>{};
}

// It runs on, and a server with its VMM takes it over; this one says so, and hears when it ends.
Awaitable<Result<void>> VmActor::leave_to_its_vmm(ProcessIdentity process) {
    if (!open_process(process)) {
        co_await note_end(State::dead, "the VMM was gone when the server started");
        co_return Result<void>{};
    }
    watchers_.spawn(watch_foreign(shared_from_this(), process));
    auto refused = fits_vmm();
    enter(status_.state, refused.error().what);
    co_return refused;
}

Awaitable<void> VmActor::watch_foreign(std::shared_ptr<VmActor> self, ProcessIdentity process) {
    auto running = launcher::Process::adopt(self->strand_, process);
    if (running) co_await running->exited();
    auto turn = co_await self->operations_.turn();
    if (self->status_.process != process || !has_process(self->status_.state)) co_return;
    co_await self->note_end(State::dead, "the VMM ended");
}

// Said before anybody tries; its files stay as they are.
Awaitable<void> VmActor::say_whether_it_can_wake() {
    auto config = co_await snapshot_to_wake_from();
    enter(status_.state, config ? "" : "it cannot wake: " + config.error().what);
}

Awaitable<void> VmActor::let_go(Error reason) {
    auto self = shared_from_this();
    auto work = [self, reason]() -> Awaitable<void> {
        self->abandoned_ = reason;
        self->changed_.notify();
        self->policy_tasks_.cancel();
        auto turn = co_await self->operations_.turn();
        self->watchers_.cancel();
        co_await self->watchers_.join();
        self->console_->close();
        auto guest = std::exchange(self->guest_, nullptr);
        if (!guest) co_return;
        guest->channel->stop();
        guest->tasks.cancel();
        co_await guest->tasks.join();
    };
    co_await on_strand(strand_, work);
}

}  // namespace noid::vm
