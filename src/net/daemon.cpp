#include "net/daemon.hpp"

#include <fmt/format.h>
#include <grp.h>

#include <algorithm>
#include <array>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <csignal>

#include "base/async.hpp"
#include "base/log.hpp"
#include "net/diagnosis.hpp"
#include "net/dns_forwarder.hpp"
#include "net/firewall_watch.hpp"
#include "net/host_rules.hpp"
#include "net/lease_store.hpp"
#include "net/protocol.hpp"
#include "net/request_server.hpp"
#include "net/sleeping_guests.hpp"
#include "net/slot_pool.hpp"
#include "net/state_lock.hpp"
#include "net/uplink.hpp"

namespace noid::net {

namespace fs = std::filesystem;

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint32_t ethernet_mtu = 1500;
constexpr const char* leases_directory = "leases";

std::optional<gid_t> find_group(const std::string& name) {
    std::array<char, 16 * 1024> buffer{};
    group entry{};
    group* found = nullptr;
    if (::getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found) != 0 || found == nullptr)
        return std::nullopt;
    return found->gr_gid;
}

std::uint32_t slot_mtu(const NetdConfig& config, const std::optional<Uplink>& uplink) {
    if (config.mtu != 0) return config.mtu;
    return uplink ? std::min(uplink->mtu, ethernet_mtu) : ethernet_mtu;
}

// For co_spawn: what ends by an exception is a bug, and the daemon must not go on without that part.
void rethrow(std::exception_ptr thrown) {
    if (thrown) std::rethrow_exception(thrown);
}

Awaitable<RequestServer::Answer> whole_answer(Awaitable<std::string> line) {
    std::string text = co_await std::move(line);
    co_return RequestServer::Answer{std::move(text)};
}

}  // namespace

class Daemon::Impl {
  public:
    Impl(asio::io_context& loop, NetdConfig config, Fd lock)
        : loop_{loop}, config_{std::move(config)}, lock_{std::move(lock)} {}
    ~Impl() { kernel_thread_.join(); }

    Result<void> prepare();
    void run();

  private:
    HostRuleset host_ruleset() const {
        return {config_.pool, blocked_networks(config_.pool, config_.blocked), uplink_ ? uplink_->name : ""};
    }
    // Runs `work` on the kernel's thread.
    template <class Work>
    Awaitable<std::invoke_result_t<Work&>> in_kernel(Work work) {
        co_return co_await on_pool(kernel_thread_, std::move(work));
    }

    Awaitable<void> wait_for_signal();
    Awaitable<void> follow_uplink();
    Awaitable<void> keep_host_rules();
    Result<void> use_uplink();
    void keep_slots_ready();
    Awaitable<void> tidy();
    Awaitable<void> until_burst_is_over();

    Awaitable<RequestServer::Answer> handle(std::string line, uid_t user);
    Awaitable<RequestServer::Answer> watch(WatchRequest request, uid_t user);
    void tell(SlotEvent event);
    Awaitable<std::string> perform(SetupRequest request, uid_t user);
    Awaitable<std::string> perform(TeardownRequest request, uid_t user);
    Awaitable<std::string> perform(StatusRequest request, uid_t user);
    Awaitable<std::string> perform(AcquireRequest request, uid_t user);
    Awaitable<std::string> perform(ReleaseRequest request, uid_t user);
    Awaitable<std::string> perform(PolicyRequest request, uid_t user);
    Awaitable<std::string> perform(StatsRequest request, uid_t user);
    Awaitable<std::string> perform(RetainRequest request, uid_t user);
    Awaitable<std::string> perform(SleepRequest request, uid_t user);
    Awaitable<std::string> perform(AwakeRequest request, uid_t user);
    Awaitable<std::string> perform(DoctorRequest request, uid_t user);

    asio::io_context& loop_;
    NetdConfig config_;
    Fd lock_;
    // Used by the kernel's thread, once that runs.
    std::unique_ptr<SlotPool> pool_;
    std::unique_ptr<HostRules> host_rules_;
    std::optional<Uplink> uplink_;
    // Used by the loop's thread.
    std::unique_ptr<DnsForwarder> dns_;
    SleepingGuests sleeping_{loop_.get_executor()};
    std::optional<UplinkWatch> watch_;
    std::optional<FirewallWatch> firewall_;
    std::optional<RequestServer> server_;
    asio::signal_set signals_{loop_, SIGTERM, SIGINT};
    asio::steady_timer burst_{loop_};
    asio::steady_timer settling_{loop_};
    Clock::time_point last_acquire_;
    bool is_tidying_ = false;
    bool is_stopping_ = false;
    asio::thread_pool kernel_thread_{1};
};

Result<void> Daemon::Impl::prepare() {
    const auto addresses = AddressPool::create(config_.pool);
    if (!addresses) return fail(addresses.error());
    auto kernel = SlotKernel::open(slot_settings(config_, *addresses));
    if (!kernel) return fail(std::move(kernel.error()));
    auto leases = LeaseStore::open(config_.state_dir / leases_directory);
    if (!leases) return fail(std::move(leases.error()));
    auto watch = UplinkWatch::open(loop_.get_executor());
    if (!watch) return fail(std::move(watch.error()));
    watch_.emplace(std::move(*watch));
    auto firewall = FirewallWatch::open(loop_.get_executor());
    if (!firewall) return fail(std::move(firewall.error()));
    firewall_.emplace(std::move(*firewall));

    dns_ = std::make_unique<DnsForwarder>(
        loop_.get_executor(), DnsServers{config_.dns},
        [this](std::uint32_t index, std::uint64_t lease, std::string name,
               std::vector<ResolvedAddress> addresses_of_name) -> Awaitable<Result<void>> {
            const auto learn = [&] { return pool_->learn(index, lease, name, addresses_of_name); };
            co_return co_await in_kernel(learn);
        });
    pool_ = std::make_unique<SlotPool>(
        std::move(*kernel), std::move(*leases),
        SlotPool::Settings{config_.ready, ethernet_mtu, {inner::gateway}}, [this](SlotEvent event) {
            // In the order in which they happen, from whichever thread.
            asio::post(loop_, [this, event = std::make_shared<SlotEvent>(std::move(event))] {
                tell(std::move(*event));
            });
        });
    host_rules_ = std::make_unique<HostRules>(pool_->kernel().netfilter(), config_.state_dir);

    auto uplink = find_uplink(pool_->kernel().route(), config_.uplink);
    if (!uplink) return fail(std::move(uplink.error()));
    uplink_ = std::move(*uplink);
    // Rules come before slots: no guest is ever less isolated than it should be.
    if (auto used = use_uplink(); !used) return used;
    if (config_.set_ip_forward) {
        if (auto switched = host_rules_->switch_forwarding_on(); !switched) return switched;
    }
    const auto notes = pool_->take_over();
    if (!notes) return fail(notes.error());
    for (const auto& note : *notes) log::warn("found", {{"note", note}});

    const auto group = find_group(config_.group);
    if (!group) log::warn("only root may use the socket: no such group", {{"group", config_.group}});
    auto server =
        RequestServer::open(loop_.get_executor(), config_.socket, group,
                            [this](std::string line, uid_t user) { return handle(std::move(line), user); });
    if (!server) return fail(std::move(server.error()));
    server_.emplace(std::move(*server));
    const auto counts = pool_->counts();
    log::info("listening", {{"socket", config_.socket.native()},
                            {"leased", std::to_string(counts.leased)},
                            {"pool", config_.pool.to_string()}});
    return {};
}

// The DNS service needs to know who is there, the watch who is not to be woken any more.
void Daemon::Impl::tell(SlotEvent event) {
    const auto to_watch = [&](auto& each) {
        if constexpr (requires { sleeping_.handle(std::move(each)); }) sleeping_.handle(std::move(each));
    };
    std::visit(to_watch, event);
    dns_->handle(std::move(event));
}

void Daemon::Impl::run() {
    asio::co_spawn(loop_, server_->run(), rethrow);
    asio::co_spawn(loop_, follow_uplink(), rethrow);
    asio::co_spawn(loop_, keep_host_rules(), rethrow);
    asio::co_spawn(loop_, wait_for_signal(), rethrow);
    keep_slots_ready();
    loop_.run();
}

Awaitable<void> Daemon::Impl::wait_for_signal() {
    boost::system::error_code error;
    const int number = co_await signals_.async_wait(asio::redirect_error(asio::use_awaitable, error));
    log::info("stopping; slots and rules stay", {{"signal", std::to_string(number)}});
    is_stopping_ = true;
    server_->stop();
    watch_.reset();
    firewall_.reset();
    settling_.cancel();
    burst_.cancel();
    // A slot that is being made is finished, and heard of by the DNS service, which lives as long as the
    // loop.
    while (is_tidying_) co_await in_kernel([] {});
    loop_.stop();
}

Result<void> Daemon::Impl::use_uplink() {
    if (uplink_) {
        log::info("uplink", {{"device", uplink_->name}, {"mtu", std::to_string(uplink_->mtu)}});
    } else {
        log::warn("no uplink: guests reach nothing until there is one");
    }
    pool_->set_mtu(slot_mtu(config_, uplink_));
    return host_rules_->apply(host_ruleset());
}

Awaitable<void> Daemon::Impl::follow_uplink() {
    auto current = uplink_;
    while (!is_stopping_) {
        const auto changed = co_await watch_->changed(current);
        if (!changed || is_stopping_) co_return;
        const auto adapt = [this]() -> Result<std::optional<Uplink>> {
            auto uplink = find_uplink(pool_->kernel().route(), config_.uplink);
            if (!uplink || *uplink == uplink_) return uplink;
            uplink_ = *uplink;
            if (auto used = use_uplink(); !used) return fail(used.error());
            return uplink;
        };
        const auto adapted = co_await in_kernel(adapt);
        if (adapted) {
            current = *adapted;
            keep_slots_ready();
        } else {
            log::error("cannot follow the uplink", {{"error", adapted.error().full()}});
        }
    }
}

// Puts back what a firewall that was reloaded, or a person, took away with its own rules.
Awaitable<void> Daemon::Impl::keep_host_rules() {
    constexpr std::chrono::milliseconds reload{300};  // removes a lot, then adds a lot
    constexpr std::chrono::seconds between{5};        // for a program that removes it again and again
    const auto rest = [this](std::chrono::milliseconds time) -> Awaitable<void> {
        settling_.expires_after(time);
        boost::system::error_code cancelled;
        co_await settling_.async_wait(asio::redirect_error(asio::use_awaitable, cancelled));
    };
    bool is_mended = true;
    while (!is_stopping_) {
        if (is_mended) {
            const auto removed = co_await firewall_->removed();
            if (!removed) co_return;
            co_await rest(reload);
        }
        if (is_stopping_) co_return;
        const auto mend = [this]() -> Result<bool> {
            const auto whole = host_rules_->is_whole(host_ruleset());
            if (!whole || *whole) return whole;
            if (auto applied = host_rules_->apply(host_ruleset()); !applied) return fail(applied.error());
            return false;
        };
        const auto was_whole = co_await in_kernel(mend);
        is_mended = was_whole.has_value();
        if (is_mended && *was_whole) continue;
        if (is_mended) {
            log::warn("another program removed firewall rules of ours; they are put back");
        } else {
            log::error("firewall rules of ours are missing", {{"error", was_whole.error().full()}});
        }
        co_await rest(between);
    }
}

void Daemon::Impl::keep_slots_ready() {
    if (is_tidying_ || is_stopping_) return;
    is_tidying_ = true;
    asio::co_spawn(loop_, tidy(), rethrow);
}

Awaitable<void> Daemon::Impl::tidy() {
    // One slot at a time, so that requests have their turn in between.
    for (bool is_more = true; is_more && !is_stopping_;) {
        co_await until_burst_is_over();
        const auto done = co_await in_kernel([this] { return pool_->tidy(); });
        if (!done) log::error("cannot keep slots ready", {{"error", done.error().full()}});
        is_more = done && *done;
    }
    is_tidying_ = false;
}

// VMs that are made at once get what is ready, and do not wait while more is being made ready.
Awaitable<void> Daemon::Impl::until_burst_is_over() {
    constexpr std::chrono::milliseconds gap{50};
    constexpr std::chrono::seconds longest{1};
    const auto latest = Clock::now() + longest;
    while (!is_stopping_) {
        const auto over = std::min(last_acquire_ + gap, latest);
        if (Clock::now() >= over) co_return;
        burst_.expires_at(over);
        boost::system::error_code cancelled;
        co_await burst_.async_wait(asio::redirect_error(asio::use_awaitable, cancelled));
    }
}

Awaitable<RequestServer::Answer> Daemon::Impl::handle(std::string line, uid_t user) {
    using Answer = RequestServer::Answer;
    auto request = parse_request(line);
    if (!request) co_return Answer{error_reply(request.error(), ErrorShape::plain)};
    const auto answer = [&](auto& operation) -> Awaitable<Answer> {
        if constexpr (std::is_same_v<std::decay_t<decltype(operation)>, WatchRequest>) {
            return watch(std::move(operation), user);
        } else {
            return whole_answer(perform(std::move(operation), user));
        }
    };
    co_return co_await std::visit(answer, *request);
}

Awaitable<RequestServer::Answer> Daemon::Impl::watch(WatchRequest request, uid_t user) {
    using Answer = RequestServer::Answer;
    auto feed = sleeping_.watch(user, request.holder.server);
    if (!feed) co_return Answer{error_reply(feed.error(), ErrorShape::with_code)};
    std::vector<std::string> lost;
    for (const auto& vm : request.asleep) {
        const auto work = [&] { return pool_->sleep(vm, user); };
        const auto asleep = co_await in_kernel(work);
        if (asleep) continue;
        if (asleep.error().code == Errc::not_found) {
            lost.push_back(vm);
        } else {
            log::error("cannot watch over a VM", {{"vm", vm}, {"error", asleep.error().full()}});
        }
    }
    co_return Answer{watch_reply(lost), std::move(*feed)};
}

Awaitable<std::string> Daemon::Impl::perform(SleepRequest request, uid_t user) {
    const auto work = [&] { return pool_->sleep(request.vm, user); };
    const auto asleep = co_await in_kernel(work);
    co_return asleep ? done_reply() : error_reply(asleep.error(), ErrorShape::with_code);
}

Awaitable<std::string> Daemon::Impl::perform(AwakeRequest request, uid_t user) {
    const auto work = [&] { return pool_->awake(request.vm, user); };
    const auto awake = co_await in_kernel(work);
    co_return awake ? done_reply() : error_reply(awake.error(), ErrorShape::with_code);
}

Awaitable<std::string> Daemon::Impl::perform(SetupRequest request, uid_t user) {
    const auto work = [&] { return pool_->setup(request.index, user); };
    const auto made = co_await in_kernel(work);
    keep_slots_ready();
    co_return made ? setup_reply(*made) : error_reply(made.error(), ErrorShape::plain);
}

Awaitable<std::string> Daemon::Impl::perform(TeardownRequest request, uid_t user) {
    const auto work = [&] { return pool_->teardown(request.tap_name, user); };
    const auto done = co_await in_kernel(work);
    co_return done ? done_reply() : error_reply(done.error(), ErrorShape::plain);
}

Awaitable<std::string> Daemon::Impl::perform(StatusRequest /*request*/, uid_t /*user*/) {
    co_return status_reply(co_await in_kernel([this] { return pool_->active(); }));
}

Awaitable<std::string> Daemon::Impl::perform(AcquireRequest request, uid_t user) {
    last_acquire_ = Clock::now();
    const auto work = [&] { return pool_->acquire(request, user); };
    const auto slot = co_await in_kernel(work);
    keep_slots_ready();
    if (!slot) {
        log::error("cannot give a slot", {{"vm", request.vm}, {"error", slot.error().full()}});
        co_return error_reply(slot.error(), ErrorShape::with_code);
    }
    log::info("acquired", {{"vm", request.vm}, {"slot", std::to_string(slot->index)}});
    co_return slot_reply(*slot);
}

Awaitable<std::string> Daemon::Impl::perform(ReleaseRequest request, uid_t user) {
    const auto work = [&] { return pool_->release(request.vm, user); };
    const auto released = co_await in_kernel(work);
    keep_slots_ready();
    if (!released) co_return error_reply(released.error(), ErrorShape::with_code);
    if (*released) log::info("released", {{"vm", request.vm}});
    co_return release_reply(*released);
}

Awaitable<std::string> Daemon::Impl::perform(PolicyRequest request, uid_t user) {
    const auto work = [&] {
        return request.policy ? pool_->set_policy(request.vm, *request.policy, user)
                              : pool_->policy(request.vm, user);
    };
    const auto policy = co_await in_kernel(work);
    if (!policy) co_return error_reply(policy.error(), ErrorShape::with_code);
    if (request.policy) {
        log::info("policy", {{"vm", request.vm},
                             {"mode", name_of(policy->mode)},
                             {"rules", std::to_string(policy->rules.size())}});
    }
    co_return policy_reply(*policy);
}

Awaitable<std::string> Daemon::Impl::perform(StatsRequest request, uid_t user) {
    std::vector<std::string> vms;
    if (request.vm) {
        vms.push_back(*request.vm);
    } else {
        const auto list = [&] { return pool_->vms(user); };
        vms = co_await in_kernel(list);
    }
    // One VM at a time, so that nobody who asks for a slot waits while hundreds are counted.
    std::vector<VmStats> all;
    for (const auto& vm : vms) {
        const auto work = [&] { return pool_->stats(vm, user); };
        auto stats = co_await in_kernel(work);
        const bool has_gone = !request.vm && !stats && stats.error().code == Errc::not_found;
        if (has_gone) continue;
        if (!stats) co_return error_reply(stats.error(), ErrorShape::with_code);
        all.push_back(std::move(*stats));
    }
    co_return stats_reply(all);
}

Awaitable<std::string> Daemon::Impl::perform(RetainRequest request, uid_t user) {
    const auto work = [&] { return pool_->retain(request, user); };
    const auto released = co_await in_kernel(work);
    keep_slots_ready();
    if (!released) co_return error_reply(released.error(), ErrorShape::with_code);
    for (const auto& vm : *released) log::info("released", {{"vm", vm}, {"reason", "unknown to its owner"}});
    co_return retain_reply(*released);
}

Awaitable<std::string> Daemon::Impl::perform(DoctorRequest /*request*/, uid_t /*user*/) {
    const auto work = [this] {
        SlotKernel& kernel = pool_->kernel();
        auto findings = diagnose_host(config_, kernel.route(), kernel.netfilter());
        const auto own = diagnose_daemon(host_ruleset(), pool_->counts(), kernel.netfilter());
        findings.insert(findings.end(), own.begin(), own.end());
        return findings;
    };
    co_return doctor_reply(co_await in_kernel(work));
}

Daemon::Daemon(std::unique_ptr<Impl> impl) : impl_{std::move(impl)} {}
Daemon::~Daemon() = default;

Result<std::unique_ptr<Daemon>> Daemon::start(asio::io_context& loop, NetdConfig config) {
    auto lock = take_state_lock(config.state_dir);
    if (!lock) return fail(std::move(lock.error()));
    auto impl = std::make_unique<Impl>(loop, std::move(config), std::move(*lock));
    if (auto prepared = impl->prepare(); !prepared) return fail(prepared.error());
    return std::unique_ptr<Daemon>{new Daemon{std::move(impl)}};
}

void Daemon::run() {
    impl_->run();
}

}  // namespace noid::net
