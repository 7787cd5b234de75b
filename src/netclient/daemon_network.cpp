#include "netclient/daemon_network.hpp"

#include <utility>

#include "base/log.hpp"

namespace noid::netclient {

namespace {

net::Mode mode_of(vm::NetworkMode mode) {
    switch (mode) {
        case vm::NetworkMode::none:
            return net::Mode::none;
        case vm::NetworkMode::egress:
            return net::Mode::egress;
        case vm::NetworkMode::open:
            return net::Mode::open;
    }
    std::unreachable();
}

vm::Slot slot_of(const net::SlotDescription& given) {
    vm::Slot slot;
    slot.index = given.index;
    slot.attachment = {given.tap, given.guest_mac, given.netns};
    slot.guest = {given.guest_mac, given.address, given.gateway, given.nameservers, given.mtu};
    slot.address = given.guest_ip.to_string();
    return slot;
}

std::optional<Error> error_in(const auto& result) {
    if (result) return std::nullopt;
    return result.error();
}

}  // namespace

bool DaemonNetwork::is_out_of_service(const std::optional<Error>& error) {
    const bool is_out = error && (error->code == Errc::unavailable || error->code == Errc::forbidden);
    const std::scoped_lock lock{mutex_};
    if (is_out && !unavailable_) {
        log::warn("VMs are made without a network", {{"reason", error->what}});
    } else if (!is_out && unavailable_) {
        log::info("there is a network again");
    }
    unavailable_ = is_out ? std::optional{error->what} : std::nullopt;
    return is_out;
}

Awaitable<void> DaemonNetwork::give_back_owed() {
    std::set<std::string> owed;
    {
        const std::scoped_lock lock{mutex_};
        owed.swap(owed_);
    }
    for (auto each = owed.begin(); each != owed.end(); each = owed.erase(each)) {
        if (const auto released = co_await client_.release(*each); released) continue;
        const std::scoped_lock lock{mutex_};
        owed_.merge(owed);
        co_return;
    }
}

Awaitable<Result<std::optional<vm::Slot>>> DaemonNetwork::acquire(std::string vm_id, vm::NetworkMode mode) {
    {
        // A VM that is started again keeps the slot that it could not give back.
        const std::scoped_lock lock{mutex_};
        owed_.erase(vm_id);
    }
    net::AcquireRequest request;
    request.vm = std::move(vm_id);
    request.policy.mode = mode_of(mode);
    const auto given = co_await client_.acquire(request);
    if (is_out_of_service(error_in(given))) co_return std::nullopt;
    if (!given) co_return fail(Error{given.error()}.at("network"));
    co_await give_back_owed();
    co_return slot_of(*given);
}

Awaitable<Result<void>> DaemonNetwork::release(std::string vm_id) {
    const auto released = co_await client_.release(vm_id);
    if (is_out_of_service(error_in(released))) {
        const std::scoped_lock lock{mutex_};
        owed_.insert(std::move(vm_id));
        co_return Result<void>{};
    }
    if (!released) co_return fail(Error{released.error()}.at("network"));
    co_await give_back_owed();
    co_return Result<void>{};
}

std::string DaemonNetwork::unavailable_reason() const {
    const std::scoped_lock lock{mutex_};
    return unavailable_.value_or("noid-netd was not running when the VM was made");
}

}  // namespace noid::netclient
