#include "vm/warm_pool.hpp"

#include <algorithm>
#include <boost/asio/strand.hpp>
#include <utility>

#include "base/log.hpp"
#include "vm/data_directory.hpp"
#include "vm/directory_watch.hpp"
#include "vm/memory_pressure.hpp"
#include "vm/warm_plan.hpp"

namespace noid::vm {

using namespace std::chrono_literals;

namespace {

// Whoever makes one VM often makes another at once, or uses it: both come before the pool.
constexpr auto quiet_before_refill = 500ms;
constexpr auto calm_before_refill = 60s;  // after programs waited for memory
constexpr auto first_setback = 30s;
constexpr std::chrono::seconds longest_setback = 600s;
constexpr MiB least_left{256};            // available memory that is never given to the pool
constexpr std::uint64_t share_left = 10;  // or one of so many parts of the host's memory
constexpr std::uint64_t share_short = 5;  // less than one of so many parts is little

bool host_has_room_for(MiB memory) {
    const auto host = host_memory();
    if (!host) return false;
    const MiB left = std::max(least_left, MiB{host->total.count / share_left});
    return host->available.count >= memory.count + left.count;
}

// Programs wait for memory also at the limit of their own control group, as VMs that read much of their disk
// do: that there were fewer VMs would not help them.
bool host_has_little_left() {
    const auto host = host_memory();
    return !host || host->available.count < host->total.count / share_short;
}

}  // namespace

WarmPool::WarmPool(asio::io_context& loop, Host& host, std::filesystem::path place)
    : host_{host},
      place_{std::move(place)},
      strand_{asio::make_strand(loop)},
      tasks_{strand_, "warm pool"},
      alarm_{strand_} {}

bool WarmPool::is_wanted() const noexcept {
    return host_.config.pool.size > 0 && host_.config.pool.memory.count > 0;
}

Awaitable<Result<void>> WarmPool::remove_remains(std::shared_ptr<const WorkingDirectories> running) {
    auto list = [this] { return names_in(place_); };
    auto names = co_await on_pool(host_.files, std::move(list));
    if (!names) co_return fail(std::move(names.error()));
    for (const std::string& name : *names) {
        const auto directory = place_ / name;
        for (const ProcessIdentity& process : running->in(directory)) {
            log::info("VM of an earlier server's pool is ended", {{"pid", std::to_string(process.pid)}});
            auto ended = co_await end_process(host_.warden, host_.files, process, directory);
            if (!ended) co_return ended;
        }
        auto remove = [this, &directory] { return remove_tree(directory, host_.warden); };
        if (auto removed = co_await on_pool(host_.files, std::move(remove)); !removed) co_return removed;
    }
    co_return Result<void>{};
}

void WarmPool::start() {
    if (!is_wanted()) return;
    asio::post(strand_, [this] {
        tasks_.spawn(keep_filled());
        tasks_.spawn(follow_templates());
        tasks_.spawn(yield_to_pressure());
    });
}

Awaitable<void> WarmPool::close() {
    if (!is_wanted()) co_return;
    auto work = [this]() -> Awaitable<Result<void>> {
        co_await ignore_cancellation();
        closing_ = true;
        tasks_.cancel();
        if (host_.at_step) (void)host_.at_step("pool:closing");
        co_await tasks_.join();
        end_all();
        co_await tasks_.join();
        closed_ = true;
        co_return Result<void>{};
    };
    (void)co_await on_strand(strand_, work);
}

// --- what creates ask --------------------------------------------------------------------------------

WarmPool::Busy WarmPool::busy() {
    if (!is_wanted()) return Busy{nullptr};
    creating_.fetch_add(1, std::memory_order_relaxed);
    return Busy{shared_from_this()};
}

void WarmPool::finished_creating() {
    // Together: whoever finds that none is being made finds for how long it is quiet, too.
    asio::post(strand_, [self = shared_from_this()] {
        self->creating_.fetch_sub(1, std::memory_order_relaxed);
        self->quiet_from_ = Clock::now() + quiet_before_refill;
        self->look_again();
    });
}

WarmPool::Loan WarmPool::borrow(const Origin& origin) {
    const std::lock_guard lock{mutex_};
    const auto found = std::ranges::find_if(ready_, [&](const std::shared_ptr<WarmVm>& vm) {
        return vm->origin().place == origin.place && vm->origin().config.id == origin.config.id;
    });
    if (found == ready_.end()) return {};
    std::shared_ptr<WarmVm> vm = std::move(*found);
    ready_.erase(found);
    return Loan{shared_from_this(), std::move(vm)};
}

void WarmPool::take_back(std::shared_ptr<WarmVm> vm, bool untouched) {
    asio::post(strand_, [self = shared_from_this(), vm = std::move(vm), untouched]() mutable {
        if (self->closed_) return;  // the next server removes it
        {
            const std::lock_guard lock{self->mutex_};
            // While it was away another may have taken its room.
            const std::uint64_t memory = self->memory_locked().count + vm->memory().count;
            if (untouched && !self->closing_ && memory <= self->host_.config.pool.memory.count) {
                self->ready_.push_back(std::move(vm));
                self->look_again();
                return;
            }
            ++self->counted_.ended;
        }
        self->tasks_.spawn(self->end(std::move(vm)));
    });
}

void WarmPool::count_given() {
    const std::lock_guard lock{mutex_};
    ++counted_.given;
}

void WarmPool::count_missed() {
    const std::lock_guard lock{mutex_};
    ++counted_.missed;
}

WarmNumbers WarmPool::numbers() const {
    const std::lock_guard lock{mutex_};
    WarmNumbers numbers = counted_;
    numbers.ready = ready_.size();
    numbers.memory = memory_locked();
    return numbers;
}

MiB WarmPool::memory_locked() const {
    MiB sum;
    for (const auto& vm : ready_) sum.count += vm->memory().count;
    return sum;
}

// --- filling -----------------------------------------------------------------------------------------

void WarmPool::look_again() {
    look_again_ = true;
    alarm_.cancel();
}

// Until then, or until there is something to look at. True: the latter.
Awaitable<bool> WarmPool::sleep_until(Clock::time_point when) {
    if (!look_again_) {
        alarm_.expires_at(when);
        boost::system::error_code ignored;
        co_await alarm_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }
    co_return std::exchange(look_again_, false);
}

Awaitable<void> WarmPool::keep_filled() {
    while (true) {
        co_await wait_for_quiet();
        const bool improved = co_await improve();
        if (!improved) (void)co_await sleep_until(next_try());
    }
}

Awaitable<void> WarmPool::wait_for_quiet() {
    while (true) {
        const bool creating = creating_.load(std::memory_order_relaxed) > 0;
        const auto from = std::max(quiet_from_, calm_from_);
        if (!creating && Clock::now() >= from) co_return;
        (void)co_await sleep_until(creating ? Clock::time_point::max() : from);
    }
}

// One step towards what is wanted now; false when there is none to take.
Awaitable<bool> WarmPool::improve() {
    auto list = [this] { return host_.templates.usable(); };
    std::vector<Origin> origins = co_await on_pool(host_.files, std::move(list));
    std::vector<std::shared_ptr<WarmVm>> present;
    {
        const std::lock_guard lock{mutex_};
        present = ready_;
    }
    const auto is_of = [](const Origin& origin) {
        return [&origin](const std::shared_ptr<WarmVm>& vm) {
            return vm->origin().place == origin.place && vm->origin().config.id == origin.config.id;
        };
    };
    std::erase_if(origins, [&](const Origin& origin) {
        return is_set_back(origin.config.id) && std::ranges::none_of(present, is_of(origin));
    });
    std::vector<MiB> memory;
    for (const Origin& origin : origins) memory.push_back(origin.config.memory);
    const auto plan = plan_warm_vms(memory, host_.config.pool.size, host_.config.pool.memory);

    const Origin* to_add = nullptr;
    std::size_t fewest = 0;
    std::vector<std::shared_ptr<WarmVm>> kept;
    for (std::size_t i = 0; i < origins.size(); ++i) {
        std::size_t have = 0;
        for (const auto& vm : present) {
            if (!is_of(origins[i])(vm) || have == plan[i]) continue;
            kept.push_back(vm);
            ++have;
        }
        const bool lacks = have < plan[i] && !is_set_back(origins[i].config.id);
        if (!lacks || (to_add && have >= fewest)) continue;
        to_add = &origins[i];
        fewest = have;
    }
    for (const auto& vm : present) {
        if (std::ranges::find(kept, vm) != kept.end() || !take_out(vm)) continue;
        log::info("VM of the pool gives way", {{"vm_id", vm->id()}, {"of", vm->origin().kind}});
        tasks_.spawn(end(vm));
    }
    // Room first: the end of each is heard.
    if (!to_add || ending_ > 0) co_return false;
    co_return co_await add(*to_add);
}

Awaitable<bool> WarmPool::add(const Origin& origin) {
    const std::string snapshot = origin.config.id;
    auto look = [memory = origin.config.memory] { return host_has_room_for(memory); };
    const bool has_room = co_await on_pool(host_.files, std::move(look));
    if (!has_room) {
        log::info("no VM is kept ready: the host has too little memory left",
                  {{"of", origin.kind}, {"memory_mib", std::to_string(origin.config.memory.count)}});
        set_back(snapshot);
        co_return true;
    }
    auto vm = co_await WarmVm::wake(host_, origin, place_);
    if (!vm) {
        log::warn("no VM is kept ready", {{"of", origin.kind}, {"reason", vm.error().full()}});
        set_back(snapshot);
        co_return true;
    }
    {
        const std::lock_guard lock{mutex_};
        ready_.push_back(*vm);
    }
    setbacks_.erase(snapshot);
    // One that is there when all tasks have been told to end is ended after them: a watch over it would
    // never have been told.
    if (!closing_) tasks_.spawn(watch(*vm));
    (void)(*vm)->reached("pool:kept");
    log::info("VM kept ready", {{"vm_id", (*vm)->id()}, {"of", origin.kind}});
    co_return true;
}

// It may end before anybody wants it.
Awaitable<void> WarmPool::watch(std::shared_ptr<WarmVm> vm) {
    // Named: g++ 12.2 lays out the frame wrongly where a body declares nothing before a co_await in a
    // condition.
    const bool ended = co_await vm->ended_by_itself();
    if (!ended || !take_out(vm)) co_return;
    log::warn("VM of the pool has ended", {{"vm_id", vm->id()}});
    set_back(vm->origin().config.id);
    tasks_.spawn(end(vm));
}

// --- giving way --------------------------------------------------------------------------------------

Awaitable<void> WarmPool::follow_templates() {
    const auto [templates, golden] = host_.templates.places();
    auto watch = DirectoryWatch::create(strand_, {templates, golden.parent_path()});
    if (!watch) {
        log::warn("the pool hears of changed templates only when VMs are made",
                  {{"reason", watch.error().full()}});
        co_return;
    }
    while (true) {
        const auto names = co_await watch->next();
        if (!names) co_return;
        const bool matters = std::ranges::any_of(*names, [&](const std::string& name) {
            return name == golden.filename() || (name.size() == 32 && !name.starts_with('.'));
        });
        if (matters) look_again();
    }
}

Awaitable<void> WarmPool::yield_to_pressure() {
    auto pressure = host_.watch_pressure(strand_);
    if (!pressure) {
        log::info("the pool looks at the host's memory only before it adds a VM",
                  {{"reason", pressure.error().full()}});
        co_return;
    }
    while (true) {
        if (auto felt = co_await pressure->felt(); !felt) co_return;
        const bool is_short = co_await on_pool(host_.files, host_has_little_left);
        if (!is_short) continue;
        if (calm_from_ < Clock::now()) log::info("the pool gives way: the host is short of memory");
        calm_from_ = Clock::now() + calm_before_refill;
        end_all();
    }
}

Awaitable<bool> WarmPool::give_way() {
    std::shared_ptr<WarmVm> vm;
    {
        const std::lock_guard lock{mutex_};
        if (ready_.empty()) co_return false;
        vm = std::move(ready_.back());
        ready_.pop_back();
        ++counted_.ended;
    }
    log::info("VM of the pool gives way to a user's", {{"vm_id", vm->id()}});
    auto work = [self = shared_from_this(), vm] { return self->end(vm); };
    co_await on_strand(strand_, std::move(work));
    co_return true;
}

Awaitable<void> WarmPool::end(std::shared_ptr<WarmVm> vm) {
    co_await ignore_cancellation();
    ++ending_;
    co_await vm->end();
    --ending_;
    (void)vm->reached("pool:ended");
    look_again();
}

void WarmPool::end_all() {
    std::vector<std::shared_ptr<WarmVm>> all;
    {
        const std::lock_guard lock{mutex_};
        all.swap(ready_);
        counted_.ended += all.size();
    }
    for (auto& vm : all) tasks_.spawn(end(std::move(vm)));
}

// Whether it was there, and nobody has borrowed it.
bool WarmPool::take_out(const std::shared_ptr<WarmVm>& vm) {
    const std::lock_guard lock{mutex_};
    if (std::erase(ready_, vm) == 0) return false;
    ++counted_.ended;
    return true;
}

// --- failures ----------------------------------------------------------------------------------------

void WarmPool::set_back(const std::string& snapshot) {
    Setback& setback = setbacks_[snapshot];
    const auto wait = setback.next_wait.count() == 0 ? first_setback : setback.next_wait;
    setback.until = Clock::now() + wait;
    setback.next_wait = std::min(longest_setback, wait * 2);
}

bool WarmPool::is_set_back(const std::string& snapshot) const {
    const auto found = setbacks_.find(snapshot);
    return found != setbacks_.end() && Clock::now() < found->second.until;
}

WarmPool::Clock::time_point WarmPool::next_try() const {
    auto next = Clock::time_point::max();
    for (const auto& [snapshot, setback] : setbacks_) {
        if (Clock::now() < setback.until) next = std::min(next, setback.until);
    }
    return next;
}

}  // namespace noid::vm
