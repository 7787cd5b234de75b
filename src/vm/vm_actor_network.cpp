// What a VM's user says about its network while it exists, and what reaches it there while it sleeps.
#include <chrono>
#include <utility>

#include "base/log.hpp"
#include "vm/vm_actor.hpp"
#include "vm/vm_operation.hpp"

namespace noid::vm {

const NetworkSettings& VmActor::network_settings() const {
    return status_.network ? *status_.network : record_.network;
}

// As the VM would be made now.
VmRecord VmActor::present_record() const {
    VmRecord record = record_;
    record.network = network_settings();
    record.resources = resources();
    return record;
}

NetworkSettings VmActor::network() const {
    const std::lock_guard lock{view_mutex_};
    return view_.network;
}

std::vector<PublishedPort> VmActor::published_ports() const {
    const std::lock_guard lock{view_mutex_};
    return view_.ports;
}

Awaitable<Result<void>> VmActor::set_network(NetworkSettings settings) {
    if (auto valid = check(settings); !valid) co_return valid;
    auto self = shared_from_this();
    auto operation = [self, &settings]() -> Awaitable<Result<void>> {
        co_await ignore_cancellation();
        co_return co_await self->set_network_now(settings);
    };
    auto set = co_await run_operation(operation);
    if (!set)
        co_return fail(std::move(set.error()).at("set the network of VM '" + record_.name.text() + "'"));
    co_return set;
}

// First where packets are judged, then where it is kept: whoever is told that it holds finds that it does.
Awaitable<Result<void>> VmActor::set_network_now(NetworkSettings settings) {
    const std::optional<NetworkSettings> before = status_.network;
    if (auto applied = co_await apply_network(settings); !applied) co_return applied;
    status_.network = std::move(settings);
    auto kept = co_await keep_settings();
    if (!kept) {
        status_.network = before;
        (void)co_await apply_network(network_settings());
        co_return kept;
    }
    publish();
    co_return Result<void>{};
}

// What the VM's owner has set, into the record and the row.
Awaitable<Result<void>> VmActor::keep_settings() {
    auto keep = [this, record = present_record(),
                 row = status_.to_row()](store::TenantDatabase& database) -> Result<void> {
        if (auto written = write_record(directory(), record); !written) return written;
        return database.update_runtime(record_.id, row);
    };
    co_return co_await in_database(std::move(keep));
}

// Without a place on the network there is nothing to do: whoever gets one gets the settings with it.
Awaitable<Result<void>> VmActor::apply_network(NetworkSettings settings) {
    if (!status_.slot) co_return Result<void>{};
    auto applied = co_await host_.network.policy(record_.id, std::move(settings));
    if (!applied && applied.error().code == Errc::not_found) {
        if (slot_sleeps_)
            co_return Result<void>{};  // it gets another when it wakes, and the settings with it
        co_return fail(Errc::unavailable,
                       "the VM has lost its place on the network; stop it and start it again");
    }
    co_return applied;
}

// --- asleep, and reached over the network ---------------------------------------------------------------

// A suspended VM keeps its slot, so that it is found at the same address and wakes when somebody sends there.
Awaitable<void> VmActor::let_slot_sleep() {
    if (!status_.slot) co_return;
    slot_sleeps_ = true;
    auto told = co_await host_.network.sleep(record_.id);
    if (!told) {
        log::warn("VM does not wake by its address",
                  {{"vm", record_.name.text()}, {"reason", told.error().full()}});
    }
}

Awaitable<void> VmActor::rouse_slot() {
    if (!std::exchange(slot_sleeps_, false)) co_return;
    auto told = co_await host_.network.awake(record_.id);
    if (!told) {
        log::warn("what was sent to a sleeping VM is not given to it",
                  {{"vm", record_.name.text()}, {"reason", told.error().full()}});
    }
}

Awaitable<void> VmActor::answer_knock() {
    auto self = shared_from_this();
    auto answer = [self]() -> Awaitable<Result<void>> {
        if (self->status_.state == State::suspended) {
            log::info("VM is woken by traffic to its address", {{"vm", self->record_.name.text()}});
            auto woken = co_await self->wake();
            self->last_used_ = std::chrono::steady_clock::now();
            co_return woken;
        }
        // The server ended after the wake, before it could say so.
        if (self->status_.state != State::running) co_return Result<void>{};
        co_return co_await self->host_.network.awake(self->record_.id);
    };
    auto answered = co_await on_strand(strand_, answer);
    if (!answered) {
        log::warn("VM does not wake by traffic to its address",
                  {{"vm", record_.name.text()}, {"reason", answered.error().full()}});
    }
}

Awaitable<void> VmActor::replace_lost_slot() {
    auto self = shared_from_this();
    auto operation = [self]() -> Awaitable<Result<void>> {
        if (self->status_.state != State::suspended || !self->slot_sleeps_) co_return Result<void>{};
        co_await ignore_cancellation();
        auto slot = co_await self->acquire_place();
        if (!slot) co_return fail(std::move(slot.error()));
        if (!*slot) co_return Result<void>{};  // told again when the service is there again
        self->status_.slot = std::move(*slot);
        co_await self->let_slot_sleep();
        self->publish();
        auto query = [self, row = self->status_.to_row()](store::TenantDatabase& database) {
            return database.update_runtime(self->record_.id, row);
        };
        co_return co_await self->in_database(std::move(query));
    };
    auto replaced = co_await run_operation(operation);
    if (!replaced) {
        log::warn("suspended VM has no network slot",
                  {{"vm", record_.name.text()}, {"reason", replaced.error().full()}});
    }
}

Awaitable<Result<NetworkNumbers>> VmActor::network_numbers() {
    auto self = shared_from_this();
    auto ask = [self]() -> Awaitable<Result<NetworkNumbers>> {
        if (!self->status_.slot) co_return fail(Errc::unavailable, "the VM has no network now");
        co_return co_await self->host_.network.numbers(self->record_.id);
    };
    co_return co_await on_strand(strand_, ask);
}

Awaitable<Result<void>> VmActor::set_published_ports(std::vector<PublishedPort> ports) {
    if (auto valid = check(ports); !valid) co_return valid;
    auto self = shared_from_this();
    auto operation = [self, &ports]() -> Awaitable<Result<void>> {
        co_await ignore_cancellation();
        if (auto assigned = self->host_.ports.assign(self, ports); !assigned) co_return assigned;
        std::swap(self->status_.ports, ports);
        auto query = [self, row = self->status_.to_row()](store::TenantDatabase& database) {
            return database.update_runtime(self->record_.id, row);
        };
        auto kept = co_await self->in_database(std::move(query));
        if (!kept) {
            std::swap(self->status_.ports, ports);
            (void)self->host_.ports.assign(self, self->status_.ports);
            co_return kept;
        }
        self->publish();
        co_return Result<void>{};
    };
    co_return co_await run_operation(operation);
}

}  // namespace noid::vm
