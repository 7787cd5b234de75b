// What a VM's owner may change of its machine while it runs, and what is measured of it.
#include "vm/vm_actor.hpp"
#include "vm/vm_operation.hpp"

namespace noid::vm {

using namespace std::chrono_literals;

namespace {

constexpr auto numbers_limit = 1s;

}  // namespace

const Resources& VmActor::resources() const {
    return status_.resources ? *status_.resources : record_.resources;
}

Awaitable<Result<void>> VmActor::set_resources(ResourceChange change) {
    auto self = shared_from_this();
    auto operation = [self, &change]() -> Awaitable<Result<void>> {
        co_await ignore_cancellation();
        co_return co_await self->set_resources_now(change);
    };
    auto set = co_await run_operation(operation);
    if (!set)
        co_return fail(std::move(set.error()).at("change the resources of VM '" + record_.name.text() + "'"));
    co_return set;
}

// First the machine, then where it is kept: whoever is told that it holds finds that it does.
Awaitable<Result<void>> VmActor::set_resources_now(ResourceChange change) {
    const Resources wanted = change.applied_to(resources());
    if (auto valid = check(wanted, record_.memory, host_.config.limits); !valid) co_return valid;
    const Resources before = resources();
    if (auto applied = co_await apply_resources(before, wanted); !applied) {
        (void)co_await apply_resources(wanted, before);
        co_return applied;
    }
    const auto kept_before = status_.resources;
    status_.resources = wanted;
    auto kept = co_await keep_settings();
    if (!kept) {
        status_.resources = kept_before;
        (void)co_await apply_resources(wanted, before);
        co_return kept;
    }
    publish();
    co_return Result<void>{};
}

// Gives the machine, if there is one, what it has not got yet.
Awaitable<Result<void>> VmActor::apply_resources(Resources has, Resources wanted) {
    auto guest = guest_;
    if (!guest) co_return Result<void>{};
    if (wanted.disk != has.disk) {
        const vmm::DiskLimit limit = wanted.disk;
        if (auto set = co_await guest->machine->set_disk_limit(limit); !set) co_return set;
    }
    if (wanted.balloon != has.balloon) {
        if (auto set = co_await guest->machine->set_balloon(wanted.balloon); !set) co_return set;
    }
    co_return Result<void>{};
}

// The machine woke with the balloon of its snapshot.
Awaitable<void> VmActor::settle_balloon(MiB of_snapshot) {
    const MiB wanted = resources().balloon;
    if (wanted == of_snapshot) co_return;
    Result<void> set = fail(Errc::unsupported, "the snapshot was made without one");
    if (vmm::has_balloon(status_.layout)) set = co_await guest_->machine->set_balloon(wanted);
    if (!set) status_.notice = "its balloon is not in force: " + set.error().what;
}

// What the VMM counts, and the guest tells it, into the view.
Awaitable<void> VmActor::add_numbers(VmView& view) {
    auto guest = guest_;
    if (!guest) co_return;
    if (vmm::has_balloon(status_.layout)) {
        if (auto numbers = co_await within(numbers_limit, guest->machine->memory_numbers()))
            view.guest_memory = *numbers;
    }
    if (auto numbers = co_await within(numbers_limit, guest->machine->device_numbers()))
        view.devices = *numbers;
}

}  // namespace noid::vm
