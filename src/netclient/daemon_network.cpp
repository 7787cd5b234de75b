#include "netclient/daemon_network.hpp"

#include <utility>

#include "base/log.hpp"
#include "base/random.hpp"
#include "netclient/socket_watch.hpp"

namespace noid::netclient {

namespace {

vm::NetworkNumbers numbers_in(const net::VmStats& stats) {
    return {stats.sent, stats.received, stats.forged, stats.isolated, stats.denied, stats.connections};
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
    if (stats->empty()) co_return fail(Errc::corrupt, "network: noid-netd tells nothing of the VM");
    co_return numbers_in(stats->front());
}

Awaitable<Result<std::map<std::string, vm::NetworkNumbers>>> DaemonNetwork::all_numbers() {
    const auto stats = co_await client_.stats();
    if (!stats) co_return fail(Error{stats.error()}.at("network"));
    const std::string server = holder().server;
    std::map<std::string, vm::NetworkNumbers> numbers;
    for (const auto& each : *stats)
        if (each.server == server) numbers.emplace(each.vm, numbers_in(each));
    co_return numbers;
}

Awaitable<Result<void>> DaemonNetwork::sleep(std::string vm_id) {
    auto told = co_await client_.sleep(std::move(vm_id));
    // A daemon that comes is told by watch().
    if (is_out_of_service(error_in(told))) co_return Result<void>{};
    co_return told;
}

Awaitable<Result<void>> DaemonNetwork::awake(std::string vm_id) {
    auto told = co_await client_.awake(std::move(vm_id));
    // A daemon that comes takes the VM for asleep, says so when somebody sends to it, and is told then.
    if (is_out_of_service(error_in(told))) co_return Result<void>{};
    co_return told;
}

// Until the daemon ends.
Awaitable<Result<void>> DaemonNetwork::watch_once(vm::Doorbell& bell) {
    net::WatchRequest request;
    request.holder = holder();
    request.asleep = bell.asleep();
    const auto watch = co_await client_.watch(request);
    if (!watch) co_return fail(watch.error());
    for (const auto& vm : (*watch)->lost()) bell.lost(vm);
    while (true) {
        auto vm = co_await (*watch)->next();
        if (!vm) co_return fail(std::move(vm.error()));
        bell.knocked(std::move(*vm));
    }
}

Awaitable<void> DaemonNetwork::watch(vm::Doorbell& bell) {
    // A daemon that refuses, or a socket that is not seen to come, is asked again after this.
    constexpr std::chrono::seconds longest_wait{30};
    auto executor = co_await asio::this_coro::executor;
    std::optional<Errc> before;
    while (true) {
        SocketWatch coming{executor, client_.socket()};
        const auto ended = co_await watch_once(bell);
        const bool is_news = ended.error().code != Errc::unavailable && before != ended.error().code;
        if (is_news) log::warn("suspended VMs do not wake by traffic", {{"reason", ended.error().full()}});
        before = ended.error().code;
        co_await coming.changed(longest_wait);
    }
}

std::string DaemonNetwork::unavailable_reason() const {
    const std::scoped_lock lock{mutex_};
    return unavailable_.value_or("noid-netd was not running when the VM was made");
}

}  // namespace noid::netclient
