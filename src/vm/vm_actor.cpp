#include "vm/vm_actor.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/strand.hpp>
#include <chrono>
#include <exception>

#include "base/log.hpp"
#include "vm/race.hpp"
#include "vm/stray_processes.hpp"
#include "vm/usage.hpp"
#include "vm/vm_operation.hpp"

namespace noid::vm {

using namespace std::chrono_literals;

namespace {

constexpr auto shutdown_request_limit = 5s;  // for the agent to take the request
constexpr auto shutdown_grace = 20s;         // for the guest to power off
constexpr auto term_grace = 2s;              // for the VMM to end by itself
constexpr auto guest_stats_limit = 1s;
constexpr auto clock_step_limit = 5s;
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
                                         VmStatus status) {
    return std::shared_ptr<VmActor>{
        new VmActor{host, std::move(tenant), std::move(record), std::move(status)}};
}

VmActor::VmActor(Host& host, std::shared_ptr<TenantContext> tenant, VmRecord record, VmStatus status)
    : host_{host},
      tenant_{std::move(tenant)},
      record_{std::move(record)},
      strand_{asio::make_strand(host.loop)},
      status_{std::move(status)},
      changed_{strand_},
      console_{ConsoleLog::create(strand_, host.files, tenant_->paths.console_log(record_.name))},
      watchers_{strand_, "VM " + record_.name.text()} {
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
    view.vmm = vmm::name_of(host.vmm.description().kind);
    view.start_kind = status.start_kind;
    view.reason = status.reason;
    view.warnings = record.warnings;
    if (!has_process(status.state)) return view;
    view.started_unix = status.started_unix;
    if (status.slot) view.address = status.slot->address;
    const bool network_wanted = record.network != NetworkMode::none && status.state != State::creating;
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
    }
    tenant_->revision.fetch_add(1, std::memory_order_relaxed);
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
            if (process) usage = usage_of(*process);
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

std::unexpected<Error> VmActor::refuse(std::string_view wanted) const {
    return fail(Errc::conflict, refusal(record_.name.text(), status_.state, wanted));
}

// --- operations on a VM that exists ----------------------------------------------------------------

Awaitable<Result<void>> VmActor::start() {
    auto self = shared_from_this();
    auto operation = [self]() -> Awaitable<Result<void>> {
        const auto starting = next(self->status_.state, Event::start_begun);
        if (!starting) co_return self->refuse("started");
        auto intent = co_await self->in_database([self](store::TenantDatabase& database) {
            return database.begin(
                {0, "start", self->record_.name.text(), IntentData{self->record_.id, {}}.to_json()});
        });
        if (!intent) co_return fail(std::move(intent.error()));
        self->enter(*starting, "");
        Result<void> started = fail(Errc::cancelled, "cancelled");
        std::exception_ptr thrown;
        try {
            started = co_await unless<void>(self->boot_again(*intent), self->abandoned());
        } catch (...) {
            thrown = std::current_exception();
        }
        co_await ignore_cancellation();
        if (started) co_return started;
        if (thrown && !detail::is_cancellation(thrown)) log::exception("start of a VM", thrown);

        const Error reason = started.error();
        (void)co_await self->end_process_of_vm(0ms);
        co_await self->detach_guest();
        co_await self->end_strays();
        co_await self->release_slot();
        self->enter(next(self->status_.state, Event::start_failed).value_or(State::stopped),
                    "the start failed: " + reason.what);
        auto undone = co_await self->in_database([self, id = *intent](store::TenantDatabase& database) {
            return database.commit_runtime(id, self->record_.id, self->status_.to_row());
        });
        if (!undone) log::warn("start not taken back in the database", {{"reason", undone.error().what}});
        co_return started;
    };
    auto started = co_await run_operation(operation);
    if (!started)
        co_return fail(std::move(started.error()).at(fmt::format("start VM '{}'", record_.name.text())));
    co_return started;
}

Awaitable<Result<void>> VmActor::boot_again(std::int64_t intent) {
    auto slot = co_await acquire_slot();
    if (!slot) co_return fail(std::move(slot.error()));
    status_.slot = std::move(*slot);
    status_.start_kind = "boot";
    if (auto up = co_await launch(intent, Boot::again); !up) co_return up;
    VmStatus running = status_;
    running.state = State::running;
    running.reason.clear();
    auto committed =
        co_await in_database([this, intent, row = running.to_row()](store::TenantDatabase& database) {
            return database.commit_runtime(intent, record_.id, row);
        });
    if (!committed) co_return committed;
    enter(State::running, "");
    co_return Result<void>{};
}

Awaitable<Result<void>> VmActor::stop(StopMode mode) {
    auto self = shared_from_this();
    auto operation = [self, mode]() -> Awaitable<Result<void>> {
        const auto stopping = next(self->status_.state, Event::stop_begun);
        if (!stopping) co_return self->refuse("stopped");
        // From here on it is carried through, whoever still waits for it.
        co_await ignore_cancellation();
        auto intent = co_await self->in_database([self](store::TenantDatabase& database) {
            return database.begin(
                {0, "stop", self->record_.name.text(), IntentData{self->record_.id, {}}.to_json()});
        });
        if (!intent) co_return fail(std::move(intent.error()));
        const bool paused = self->status_.state == State::paused;
        self->enter(*stopping, "");
        if (mode == StopMode::graceful && self->guest_) {
            if (paused) {
                (void)co_await self->guest_->machine->resume();
                self->guest_->channel->resume_traffic();
            }
            co_await self->shut_guest_down(self->guest_);
        }
        if (auto ended = co_await self->end_process_of_vm(term_grace); !ended) co_return ended;
        co_await self->detach_guest();
        co_await self->release_slot();
        self->status_.started_unix.reset();
        self->enter(next(self->status_.state, Event::guest_powered_off).value_or(State::stopped), "");
        co_return co_await self->in_database([self, id = *intent](store::TenantDatabase& database) {
            return database.commit_runtime(id, self->record_.id, self->status_.to_row());
        });
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
        if (!self->host_.vmm.description().can_pause_bare) {
            co_return fail(Errc::unsupported, "this VMM cannot pause without a snapshot");
        }
        co_await ignore_cancellation();
        auto guest = self->guest_;
        auto intent = co_await self->in_database([self](store::TenantDatabase& database) {
            return database.begin(
                {0, "pause", self->record_.name.text(), IntentData{self->record_.id, {}}.to_json()});
        });
        if (!intent) co_return fail(std::move(intent.error()));
        // Between two frames, so that the stream is whole when it goes on. An agent that is away has
        // no frame on its way.
        (void)co_await guest->channel->hold_traffic();
        auto done = co_await guest->machine->pause();
        if (done) {
            self->enter(*paused, "");
        } else {
            guest->channel->resume_traffic();
        }
        auto noted = co_await self->in_database([self, id = *intent](store::TenantDatabase& database) {
            return database.commit_runtime(id, self->record_.id, self->status_.to_row());
        });
        co_return done ? noted : done;
    };
    auto paused = co_await run_operation(operation);
    if (!paused)
        co_return fail(std::move(paused.error()).at(fmt::format("pause VM '{}'", record_.name.text())));
    co_return paused;
}

Awaitable<Result<void>> VmActor::resume() {
    auto self = shared_from_this();
    auto operation = [self]() -> Awaitable<Result<void>> {
        const auto running = next(self->status_.state, Event::resumed);
        if (!running || !self->guest_) co_return self->refuse("resumed");
        co_await ignore_cancellation();
        auto guest = self->guest_;
        auto intent = co_await self->in_database([self](store::TenantDatabase& database) {
            return database.begin(
                {0, "resume", self->record_.name.text(), IntentData{self->record_.id, {}}.to_json()});
        });
        if (!intent) co_return fail(std::move(intent.error()));
        auto done = co_await guest->machine->resume();
        if (done) {
            guest->channel->resume_traffic();
            // The guest's clock stood still with it.
            auto stepped =
                co_await guest->channel->renew_identity(self->identity_for(Boot::again), clock_step_limit);
            if (!stepped) {
                log::warn("clock not stepped after resume",
                          {{"vm", self->record_.name.text()}, {"reason", stepped.error().what}});
            }
            self->enter(*running, "");
        }
        auto noted = co_await self->in_database([self, id = *intent](store::TenantDatabase& database) {
            return database.commit_runtime(id, self->record_.id, self->status_.to_row());
        });
        co_return done ? noted : done;
    };
    auto resumed = co_await run_operation(operation);
    if (!resumed)
        co_return fail(std::move(resumed.error()).at(fmt::format("resume VM '{}'", record_.name.text())));
    co_return resumed;
}

// --- sessions and console ----------------------------------------------------------------------------

// The guest, once the VM runs and its agent answers on the present connection.
Awaitable<Result<std::shared_ptr<VmActor::Guest>>> VmActor::running_guest() {
    while (true) {
        if (abandoned_) co_return fail(*abandoned_);
        switch (status_.state) {
            case State::creating:
            case State::starting:
                co_await changed_.wait();
                continue;
            case State::running:
                break;
            case State::paused:
                co_return fail(Errc::conflict,
                               fmt::format("VM '{}' is paused; resume it first", record_.name.text()));
            case State::stopped:
            case State::dead:
                co_return fail(Errc::conflict, fmt::format("VM '{}' is {}; start it first",
                                                           record_.name.text(), name_of(status_.state)));
            case State::suspended:
            case State::stopping:
            case State::destroying:
                co_return fail(Errc::conflict,
                               fmt::format("VM '{}' is {}", record_.name.text(), name_of(status_.state)));
        }
        auto guest = guest_;
        if (!guest)
            co_return fail(Errc::unavailable,
                           fmt::format("the VMM of VM '{}' has ended", record_.name.text()));
        auto agent = co_await guest->channel->ready(host_.config.guest.boot_timeout);
        if (!agent) co_return fail(std::move(agent.error()));
        if (guest != guest_ || status_.state != State::running) continue;
        if (!agent_) {  // the first answer since the server was restarted
            agent_ = std::move(*agent);
            publish();
        }
        co_return guest;
    }
}

Awaitable<Result<void>> VmActor::ready(std::chrono::milliseconds limit) {
    auto self = shared_from_this();
    auto wait = [self, limit]() -> Awaitable<Result<void>> {
        auto guest = co_await within(limit, self->running_guest());
        if (!guest && guest.error().code == Errc::timed_out) {
            co_return fail(Errc::timed_out,
                           fmt::format("VM '{}' did not answer in time", self->record_.name.text()));
        }
        if (!guest) co_return fail(std::move(guest.error()));
        co_return Result<void>{};
    };
    co_return co_await on_strand(strand_, wait);
}

Awaitable<Result<std::shared_ptr<channel::Session>>> VmActor::open(proto::SessionSpec spec) {
    auto self = shared_from_this();
    auto begin = [self, &spec]() -> Awaitable<Result<std::shared_ptr<channel::Session>>> {
        auto guest = co_await within(self->host_.config.guest.boot_timeout, self->running_guest());
        if (!guest) co_return fail(std::move(guest.error()));
        const std::size_t most = self->host_.config.limits.max_sessions_per_vm;
        if ((*guest)->channel->attached_sessions() + self->opening_ >= most) {
            co_return fail(Errc::limit_exceeded,
                           fmt::format("VM '{}' has {} sessions already, which is the limit",
                                       self->record_.name.text(), most));
        }
        const Counted counted{self->opening_};
        co_return co_await (*guest)->channel->open(std::move(spec));
    };
    co_return co_await on_strand(strand_, begin);
}

Awaitable<Result<std::shared_ptr<channel::Session>>> VmActor::attach(proto::SessionId id,
                                                                     proto::OutputOffsets have) {
    auto self = shared_from_this();
    auto begin = [self, id, have]() -> Awaitable<Result<std::shared_ptr<channel::Session>>> {
        auto guest = co_await within(self->host_.config.guest.boot_timeout, self->running_guest());
        if (!guest) co_return fail(std::move(guest.error()));
        co_return co_await (*guest)->channel->attach(id, have);
    };
    co_return co_await on_strand(strand_, begin);
}

Awaitable<Result<std::vector<proto::SessionInfo>>> VmActor::sessions() {
    auto self = shared_from_this();
    auto ask = [self]() -> Awaitable<Result<std::vector<proto::SessionInfo>>> {
        auto guest = co_await within(self->host_.config.guest.boot_timeout, self->running_guest());
        if (!guest) co_return fail(std::move(guest.error()));
        co_return co_await (*guest)->channel->sessions();
    };
    co_return co_await on_strand(strand_, ask);
}

Awaitable<Result<std::shared_ptr<ConsoleReader>>> VmActor::console(std::uint64_t tail_bytes, bool follow) {
    auto self = shared_from_this();
    auto open_reader = [self, tail_bytes, follow]() -> Awaitable<Result<std::shared_ptr<ConsoleReader>>> {
        co_return self->console_->reader(tail_bytes, follow);
    };
    co_return co_await on_strand(strand_, open_reader);
}

Awaitable<Result<void>> VmActor::write_console(std::string bytes) {
    auto self = shared_from_this();
    auto write = [self, &bytes]() -> Awaitable<Result<void>> {
        if (!self->guest_) co_return self->refuse("written to");
        auto guest = self->guest_;
        co_return co_await guest->machine->write_console(bytes);
    };
    co_return co_await on_strand(strand_, write);
}

// --- the VMM and the agent ---------------------------------------------------------------------------

void VmActor::attach_guest(std::unique_ptr<vmm::Machine> machine) {
    std::shared_ptr<vmm::Machine> shared{std::move(machine)};
    auto channel = host_.make_channel(strand_, [shared] { return shared->connect_agent(); });
    auto guest = std::make_shared<Guest>(shared, std::move(channel), strand_);
    guest_ = guest;
    agent_.reset();
    status_.process = shared->identity();
    status_.started_unix = unix_now();
    guest->channel->start();
    guest->tasks.spawn(feed_console(shared, console_));
    watchers_.spawn(watch(shared_from_this(), guest));
}

// The VMM has ended: gives up the way to it. What it said last still reaches the console log.
Awaitable<void> VmActor::detach_guest() {
    auto guest = std::exchange(guest_, nullptr);
    agent_.reset();
    status_.process.reset();
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
    co_await detach_guest();
    co_await release_slot();
    status_.started_unix.reset();
    enter(*state, describe(exit));
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
        if (!self->status_.process) co_return Result<void>{};
        const ProcessIdentity process = *self->status_.process;
        auto machine = co_await self->host_.vmm.adopt(self->machine_spec(), process);
        if (!machine) {
            std::string reason = "the VMM was gone when the server started";
            if (machine.error().code != Errc::not_found) {
                reason = "the VMM could not be taken over: " + machine.error().what;
                if (auto ended = co_await end_process(process); !ended) {
                    log::error("stray VMM cannot be ended", {{"reason", ended.error().full()}});
                }
            }
            self->status_.process.reset();
            self->status_.started_unix.reset();
            co_await self->release_slot();
            self->enter(State::dead, reason);
            co_return co_await self->in_database([self](store::TenantDatabase& database) {
                return database.update_runtime(self->record_.id, self->status_.to_row());
            });
        }
        const auto started_unix = self->status_.started_unix;
        self->attach_guest(std::move(*machine));
        self->status_.started_unix = started_unix;
        const bool paused = self->status_.state == State::paused;
        if (settle_pause) {
            // Already there answers conflict, which is as good.
            auto& vmm = *self->guest_->machine;
            if (paused) {
                (void)co_await vmm.pause();
            } else {
                (void)co_await vmm.resume();
            }
        }
        if (paused) (void)co_await self->guest_->channel->hold_traffic();
        self->publish();
        self->changed_.notify();
        co_return Result<void>{};
    };
    auto taken = co_await on_strand(strand_, work);
    if (!taken) {
        log::error("VM not taken over", {{"vm", record_.name.text()}, {"reason", taken.error().full()}});
    }
}

Awaitable<void> VmActor::let_go(Error reason) {
    auto self = shared_from_this();
    auto work = [self, reason]() -> Awaitable<void> {
        self->abandoned_ = reason;
        self->changed_.notify();
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
