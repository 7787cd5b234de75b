#include "netclient/daemon_network.hpp"

#include <utility>

#include "base/log.hpp"
#include "base/random.hpp"

namespace noid::netclient {

namespace {

void add(vm::NetworkNumbers& sum, const net::VmStats& stats) {
    const auto count = [](net::Traffic& total, const net::Traffic& one) {
        total.bytes += one.bytes;
        total.packets += one.packets;
    };
    count(sum.sent, stats.sent);
    count(sum.received, stats.received);
    count(sum.forged, stats.forged);
    count(sum.isolated, stats.isolated);
    count(sum.denied, stats.denied);
    sum.connections += stats.connections;
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

DaemonNetwork::DaemonNetwork(std::filesystem::path socket, Client::Connect connect)
    : client_{std::move(socket), Client::default_limit, std::move(connect)}, run_{random_hex(8)} {}

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

// Safe to be said by several requests at once: netd leaves alone what this process has acquired.
Awaitable<void> DaemonNetwork::give_back_leaked() {
    net::RetainRequest request;
    {
        const std::scoped_lock lock{mutex_};
        if (!retained_) co_return;
        request.vms = *retained_;
    }
    request.holder = holder();
    const auto released = co_await client_.retain(request);
    if (is_out_of_service(error_in(released))) co_return;
    if (released) {
        for (const auto& vm : *released) log::warn("leaked network slot given back", {{"vm_id", vm}});
    } else {
        log::error("leaked network slots are not given back", {{"reason", released.error().full()}});
    }
    const std::scoped_lock lock{mutex_};
    retained_.reset();
}

net::Holder DaemonNetwork::holder() const {
    const std::scoped_lock lock{mutex_};
    return {server_id_, run_};
}

Awaitable<void> DaemonNetwork::retain(std::string server_id, std::vector<std::string> vm_ids) {
    {
        const std::scoped_lock lock{mutex_};
        server_id_ = std::move(server_id);
        retained_ = std::move(vm_ids);
    }
    co_await give_back_leaked();
}

Awaitable<Result<std::optional<vm::Slot>>> DaemonNetwork::acquire(std::string vm_id,
                                                                  vm::NetworkSettings settings) {
    co_await give_back_leaked();
    {
        // A VM that is started again keeps the slot that it could not give back.
        const std::scoped_lock lock{mutex_};
        owed_.erase(vm_id);
    }
    net::AcquireRequest request;
    request.vm = std::move(vm_id);
    request.holder = holder();
    request.policy = std::move(settings);
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

Awaitable<Result<void>> DaemonNetwork::policy(std::string vm_id, vm::NetworkSettings settings) {
    const auto set = co_await client_.set_policy(std::move(vm_id), std::move(settings));
    if (!set) co_return fail(Error{set.error()}.at("network"));
    co_return Result<void>{};
}

Awaitable<Result<vm::NetworkNumbers>> DaemonNetwork::numbers(std::string vm_id) {
    const auto stats = co_await client_.stats(std::move(vm_id));
    if (!stats) co_return fail(Error{stats.error()}.at("network"));
    vm::NetworkNumbers numbers;
    for (const auto& each : *stats) add(numbers, each);
    co_return numbers;
}

Awaitable<Result<vm::NetworkNumbers>> DaemonNetwork::total_numbers() {
    const auto stats = co_await client_.stats();
    if (!stats) co_return fail(Error{stats.error()}.at("network"));
    const std::string server = holder().server;
    vm::NetworkNumbers numbers;
    for (const auto& each : *stats)
        if (each.server == server) add(numbers, each);
    co_return numbers;
}

std::string DaemonNetwork::unavailable_reason() const {
    const std::scoped_lock lock{mutex_};
    return unavailable_.value_or("noid-netd was not running when the VM was made");
}

}  // namespace noid::netclient
