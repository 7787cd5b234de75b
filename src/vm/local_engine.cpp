#include "vm/local_engine.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/strand.hpp>
#include <mutex>
#include <tuple>

#include "base/file.hpp"
#include "base/log.hpp"
#include "base/random.hpp"
#include "vm/checkpoint_hasher.hpp"
#include "vm/golden.hpp"
#include "vm/race.hpp"
#include "vm/server_id.hpp"
#include "vm/stray_processes.hpp"
#include "vm/task_group.hpp"
#include "vm/usage.hpp"
#include "vm/warm_pool.hpp"
#include "volume/pool.hpp"

namespace noid::vm {

namespace {

constexpr std::size_t token_bytes = 32;

User user_of(const store::UserRow& row) {
    return {row.id, row.name, row.created_at};
}

struct NewSecret {
    std::string secret = random_hex(token_bytes);
    TokenHash hash = hash_token(secret);
};

Error no_such_user(const std::string& name) {
    return {Errc::not_found, fmt::format("user '{}' not found", name)};
}

}  // namespace

LocalEngine::LocalEngine(EngineParts parts, DataDirectory directory, std::unique_ptr<volume::Volume> volume,
                         std::unique_ptr<store::UserDatabase> users)
    : config_{std::move(parts.config)},
      vmm_{std::move(parts.vmm)},
      warden_{std::move(parts.warden)},
      network_{std::move(parts.network)},
      directory_{std::move(directory)},
      volume_{std::move(volume)},
      templates_{directory_.templates(), directory_.golden(), config_.storage.template_budget,
                 vmm_->description()},
      user_database_{std::move(users)},
      strand_{asio::make_strand(parts.loop)},
      watch_{strand_, "watch over sleeping VMs"},
      warm_{std::make_shared<WarmPool>(parts.loop, host_, directory_.warm())},
      hasher_{std::make_unique<CheckpointHasher>([at_step = parts.at_step] {
          if (at_step) (void)at_step("hash:taken");
      })},
      host_{parts.loop,
            config_,
            databases_,
            files_,
            *vmm_,
            *warden_,
            *volume_,
            templates_,
            *warm_,
            *hasher_,
            *network_,
            ports_,
            std::move(parts.make_channel),
            std::move(parts.at_step),
            std::move(parts.watch_pressure)} {}

Awaitable<Result<std::unique_ptr<Engine>>> LocalEngine::open(EngineParts parts) {
    // Once, before anything runs: these few files may be waited for.
    auto directory = DataDirectory::open(parts.config.paths.data_dir);
    if (!directory) co_return fail(std::move(directory.error()));
    auto volume = volume::probe_storage(parts.config.paths.data_dir, directory->users());
    if (!volume) co_return fail(std::move(volume.error()));
    auto users = store::UserDatabase::open(directory->database());
    if (!users) co_return fail(std::move(users.error()));
    std::unique_ptr<LocalEngine> engine{
        new LocalEngine{std::move(parts), std::move(*directory), std::move(*volume), std::move(*users)}};
    auto load = [&engine]() -> Awaitable<Result<void>> { co_return co_await engine->load(); };
    if (auto loaded = co_await engine->administrate(load); !loaded) co_return fail(std::move(loaded.error()));
    auto watch = [&engine]() -> Awaitable<void> {
        engine->watch_.spawn(engine->network_->watch(*engine));
        co_return;
    };
    co_await on_strand(engine->strand_, watch);
    co_return engine;
}

template <class Work>
auto LocalEngine::administrate(Work work) const -> std::invoke_result_t<Work&> {
    auto with_turn = [this, &work]() -> std::invoke_result_t<Work&> {
        auto turn = co_await administration_.turn();
        // Once begun, users are changed completely.
        co_await ignore_cancellation();
        co_return co_await work();
    };
    co_return co_await on_strand(strand_, with_turn);
}

// --- start -------------------------------------------------------------------------------------------

// Whoever was changing golden when the host went down cannot finish it.
void LocalEngine::settle_golden() const {
    const auto golden = Golden::open(directory_.path());
    if (!golden && golden.error().code != Errc::conflict)
        log::warn("golden is left as it is", {{"reason", golden.error().full()}});
}

Awaitable<Result<void>> LocalEngine::load() {
    auto clean = [this] {
        settle_golden();
        return templates_.clean();
    };
    if (auto cleaned = co_await on_pool(files_, std::move(clean)); !cleaned) co_return cleaned;
    auto read = [this] { return std::pair{user_database_->users(), user_database_->deletions()}; };
    auto [rows, deletions] = co_await on_pool(databases_, std::move(read));
    if (!rows) co_return fail(std::move(rows.error()));
    if (!deletions) co_return fail(std::move(deletions.error()));
    auto scan = [this] { return WorkingDirectories::scan(*warden_); };
    auto scanned = co_await on_pool(files_, std::move(scan));
    // Without it every VM would pass for dead.
    if (!scanned) co_return fail(std::move(scanned.error()));
    const auto running = std::make_shared<const WorkingDirectories>(std::move(*scanned));

    auto recover_one = [](LocalEngine& engine, store::UserRow row,
                          std::shared_ptr<const WorkingDirectories> processes) -> Awaitable<void> {
        Account account{user_of(row), {}, nullptr};
        if (!from_hex(row.token_hash, account.token)) {
            log::error("user has no usable token; rotate it", {{"user", row.name}});
        }
        account.tenant = co_await engine.open_tenant(account.user, row.limits);
        if (account.tenant) {
            auto recovered = co_await (*account.tenant)->recover(processes);
            if (!recovered) account.tenant = fail(std::move(recovered.error()));
        }
        if (!account.tenant) {
            log::error("user's data cannot be opened",
                       {{"user", row.name}, {"reason", account.tenant.error().full()}});
        }
        engine.enter(std::move(account));
    };
    TaskGroup group{strand_, "recovery of users"};
    for (store::UserRow& row : *rows) group.spawn(recover_one(*this, std::move(row), running));
    co_await group.join();

    for (const std::string& user_id : *deletions) {
        // Their VMs' processes are found by where they work.
        auto vms = names_in(directory_.tenant(user_id).vms());
        for (const std::string& vm : vms ? *vms : std::vector<std::string>{}) {
            const auto place = directory_.tenant(user_id).vms() / vm;
            for (const ProcessIdentity& process : running->in(place)) {
                (void)co_await end_process(*warden_, files_, process, place);
            }
        }
        auto finished = co_await finish_deletion(user_id);
        if (!finished) log::error("deleted user's files are left", {{"reason", finished.error().full()}});
    }
    if (auto removed = co_await warm_->remove_remains(running); !removed) co_return removed;
    if (auto given_back = co_await give_back_leaked_slots(); !given_back) co_return given_back;
    warm_->start();
    co_return Result<void>{};
}

// Before any VM asks for one.
Awaitable<Result<void>> LocalEngine::give_back_leaked_slots() {
    auto look = [this] { return std::pair{server_id(directory_.path()), vms_that_may_have_slots()}; };
    auto [id, vms] = co_await on_pool(files_, std::move(look));
    if (!id) co_return fail(std::move(id.error()).at("read the server's id"));
    co_await network_->retain(std::move(*id), std::move(vms));
    co_return Result<void>{};
}

std::vector<std::string> LocalEngine::vms_that_may_have_slots() const {
    std::vector<std::string> vms;
    const std::shared_lock lock{mutex_};
    for (const auto& [name, account] : accounts_) {
        if (account.tenant) {
            for (const auto& actor : (*account.tenant)->actors())
                if (!actor->view().address.empty()) vms.push_back(actor->record().id);
            continue;
        }
        // Not opened, but its VMs may run.
        const TenantPaths paths = directory_.tenant(account.user.id);
        const auto entries = names_in(paths.vms());
        if (!entries) continue;
        for (const std::string& entry : *entries)
            if (const auto record = read_record(paths.vms() / entry)) vms.push_back(record->id);
    }
    return vms;
}

Awaitable<Result<std::shared_ptr<LocalTenant>>> LocalEngine::open_tenant(User user,
                                                                         store::UserLimits own) const {
    auto context =
        std::make_shared<TenantContext>(user.id, user.name, directory_.tenant(user.id), config_.limits, own);
    auto open_files = [&context]() -> Result<void> {
        if (auto made = context->paths.create(); !made) return made;
        auto database = store::TenantDatabase::open(context->paths.database());
        if (!database) return fail(std::move(database.error()));
        context->database = std::move(*database);
        return {};
    };
    if (auto opened = co_await on_pool(databases_, std::move(open_files)); !opened) {
        co_return fail(std::move(opened.error()));
    }
    co_return std::make_shared<LocalTenant>(host_, std::move(context));
}

void LocalEngine::enter(Account account) {
    const std::unique_lock lock{mutex_};
    names_[account.token] = account.user.name;
    std::string name = account.user.name;
    accounts_.insert_or_assign(std::move(name), std::move(account));
}

std::optional<LocalEngine::Account> LocalEngine::account_of(const std::string& name) const {
    const std::shared_lock lock{mutex_};
    const auto found = accounts_.find(name);
    if (found == accounts_.end()) return std::nullopt;
    return found->second;
}

std::vector<std::shared_ptr<LocalTenant>> LocalEngine::tenants() const {
    const std::shared_lock lock{mutex_};
    std::vector<std::shared_ptr<LocalTenant>> all;
    for (const auto& [name, account] : accounts_) {
        if (account.tenant) all.push_back(*account.tenant);
    }
    return all;
}

// --- users -------------------------------------------------------------------------------------------

Result<std::shared_ptr<Tenant>> LocalEngine::authenticate(std::string_view token) const {
    if (token.empty() || token.size() > max_token_bytes) return fail(Errc::unauthenticated, "invalid token");
    const TokenHash hash = hash_token(token);
    const std::shared_lock lock{mutex_};
    const auto name = names_.find(hash);
    if (name == names_.end()) return fail(Errc::unauthenticated, "invalid token");
    const Account& account = accounts_.at(name->second);
    if (!account.tenant) return fail(account.tenant.error());
    return *account.tenant;
}

std::shared_ptr<Tenant> LocalEngine::tenant_named(const std::string& user_name) const {
    const std::shared_lock lock{mutex_};
    const auto account = accounts_.find(user_name);
    if (account == accounts_.end() || !account->second.tenant) return nullptr;
    return *account->second.tenant;
}

Awaitable<Result<Engine::NewToken>> LocalEngine::create_user(std::string name) {
    auto work = [this, &name] { return create_user_now(name); };
    co_return co_await administrate(work);
}

Awaitable<Result<Engine::NewToken>> LocalEngine::create_user_now(std::string name) {
    if (!is_valid_user_name(name)) {
        co_return fail(Errc::invalid, "a user name has 1 to 64 characters out of a-z, A-Z, 0-9, _ . - @ +");
    }
    if (account_of(name)) co_return fail(Errc::conflict, fmt::format("user '{}' already exists", name));
    const NewSecret fresh;
    auto add = [this, &name, id = random_uuid(), hash = to_hex(fresh.hash)] {
        return user_database_->add(id, name, hash);
    };
    auto row = co_await on_pool(databases_, std::move(add));
    if (!row) co_return fail(std::move(row.error()).at("add user"));
    const User user = user_of(*row);
    auto tenant = co_await open_tenant(user, store::UserLimits{});
    if (!tenant) {
        auto take_back = [this, &user] { return user_database_->begin_deletion(user.id); };
        if (co_await on_pool(databases_, std::move(take_back))) (void)co_await finish_deletion(user.id);
        co_return fail(std::move(tenant.error()).at("add user"));
    }
    enter({user, fresh.hash, std::move(*tenant)});
    log::info("user created", {{"user", name}, {"id", user.id}});
    co_return NewToken{user, fresh.secret};
}

Awaitable<Result<Engine::NewToken>> LocalEngine::rotate_token(std::string name) {
    auto work = [this, &name] { return rotate_token_now(name); };
    co_return co_await administrate(work);
}

Awaitable<Result<Engine::NewToken>> LocalEngine::rotate_token_now(std::string name) {
    auto account = account_of(name);
    if (!account) co_return fail(no_such_user(name));
    const NewSecret fresh;
    auto set = [this, id = account->user.id, hash = to_hex(fresh.hash)] {
        return user_database_->set_token_hash(id, hash);
    };
    if (auto done = co_await on_pool(databases_, std::move(set)); !done)
        co_return fail(std::move(done.error()));
    {
        const std::unique_lock lock{mutex_};
        names_.erase(account->token);
        names_[fresh.hash] = name;
        accounts_.at(name).token = fresh.hash;
    }
    log::info("token rotated", {{"user", name}});
    co_return NewToken{account->user, fresh.secret};
}

Awaitable<Result<std::vector<User>>> LocalEngine::users() {
    auto read = [this] { return user_database_->users(); };
    auto rows = co_await on_pool(databases_, std::move(read));
    if (!rows) co_return fail(std::move(rows.error()));
    std::vector<User> all;
    std::ranges::transform(*rows, std::back_inserter(all), user_of);
    co_return all;
}

Awaitable<Result<User>> LocalEngine::delete_user(std::string name) {
    auto work = [this, &name] { return delete_user_now(name); };
    co_return co_await administrate(work);
}

Awaitable<Result<User>> LocalEngine::delete_user_now(std::string name) {
    auto account = account_of(name);
    if (!account) co_return fail(no_such_user(name));
    auto begin = [this, id = account->user.id] { return user_database_->begin_deletion(id); };
    if (auto begun = co_await on_pool(databases_, std::move(begin)); !begun)
        co_return fail(std::move(begun.error()));
    {
        const std::unique_lock lock{mutex_};
        names_.erase(account->token);
        accounts_.erase(name);
    }
    if (account->tenant) {
        auto destroyed = co_await (*account->tenant)->destroy_all();
        if (!destroyed) {
            co_return fail(
                std::move(destroyed.error())
                    .at(fmt::format("user '{}' is removed, but not all of its VMs (the next start of the "
                                    "server tries again)",
                                    name)));
        }
    }
    auto finished = co_await finish_deletion(account->user.id);
    if (!finished) {
        co_return fail(
            std::move(finished.error())
                .at(fmt::format("user '{}' is removed, but not its files (the next start of the server "
                                "tries again)",
                                name)));
    }
    log::info("user deleted", {{"user", name}, {"id", account->user.id}});
    co_return account->user;
}

Awaitable<Result<void>> LocalEngine::finish_deletion(std::string user_id) {
    auto remove = [this, directory = directory_.tenant(user_id).directory()] {
        return remove_tree(directory, *warden_);
    };
    if (auto removed = co_await on_pool(files_, std::move(remove)); !removed) co_return removed;
    auto finish = [this, &user_id] { return user_database_->finish_deletion(user_id); };
    co_return co_await on_pool(databases_, std::move(finish));
}

// --- limits ------------------------------------------------------------------------------------------

Awaitable<Result<Engine::UserLimits>> LocalEngine::limits(std::string name) {
    auto account = account_of(name);
    if (!account) co_return fail(no_such_user(name));
    if (!account->tenant) co_return fail(account->tenant.error());
    const auto& tenant = *account->tenant;
    UserLimits limits{tenant->quota().own(), tenant->quota().allowed(), tenant->quota().running()};
    limits.used.vms = tenant->actors().size();
    auto measure = [directory = tenant->paths().directory()] { return space_taken(directory); };
    const auto bytes = co_await on_pool(files_, std::move(measure));
    if (!bytes) co_return fail(Errc::internal, "the space that the user takes cannot be measured");
    limits.used.disk = MiB{(*bytes + MiB{1}.bytes() - 1) / MiB{1}.bytes()};
    co_return limits;
}

Awaitable<Result<Engine::UserLimits>> LocalEngine::set_limits(std::string name,
                                                              store::UserLimits limits_now) {
    auto work = [this, &name, &limits_now] { return set_limits_now(name, limits_now); };
    if (auto set = co_await administrate(work); !set) co_return fail(std::move(set.error()));
    co_return co_await limits(std::move(name));
}

Awaitable<Result<void>> LocalEngine::set_limits_now(std::string name, store::UserLimits limits) {
    auto account = account_of(name);
    if (!account) co_return fail(no_such_user(name));
    auto set = [this, id = account->user.id, limits] { return user_database_->set_limits(id, limits); };
    if (auto done = co_await on_pool(databases_, std::move(set)); !done) co_return done;
    if (account->tenant) (*account->tenant)->quota().set(limits);
    log::info("limits set", {{"user", name}});
    co_return Result<void>{};
}

// --- VMs that sleep, and whoever sends to them ---------------------------------------------------------

std::vector<std::string> LocalEngine::asleep() const {
    std::vector<std::string> vms;
    for (const auto& tenant : tenants()) {
        for (const auto& actor : tenant->actors()) {
            const VmView view = actor->view();
            if (view.state == State::suspended && !view.address.empty()) vms.push_back(actor->record().id);
        }
    }
    return vms;
}

std::shared_ptr<VmActor> LocalEngine::actor_of(const std::string& vm_id) const {
    for (const auto& tenant : tenants())
        for (const auto& actor : tenant->actors())
            if (actor->record().id == vm_id) return actor;
    return nullptr;
}

void LocalEngine::knocked(std::string vm_id) {
    auto actor = actor_of(vm_id);
    // However often it is said: a VM wakes once.
    if (!actor || !being_woken_.insert(std::move(vm_id)).second) return;
    watch_.spawn(answer(*this, std::move(actor)));
}

// close() waits for it.
Awaitable<void> LocalEngine::answer(LocalEngine& engine, std::shared_ptr<VmActor> actor) {
    co_await actor->answer_knock();
    engine.being_woken_.erase(actor->record().id);
}

void LocalEngine::lost(std::string vm_id) {
    if (auto actor = actor_of(vm_id)) watch_.spawn(actor->replace_lost_slot());
}

// --- numbers and the end -----------------------------------------------------------------------------

Awaitable<EngineNumbers> LocalEngine::numbers() const {
    EngineNumbers numbers;
    std::vector<ProcessIdentity> processes;
    const auto networks = co_await network_->all_numbers();
    if (networks) {
        numbers.network.emplace();
        for (const auto& [id, counted] : *networks) *numbers.network += counted;
    }
    for (const auto& tenant : tenants()) {
        for (const auto& actor : tenant->actors()) {
            ++numbers.vms_total;
            if (actor->view().state == State::running) ++numbers.vms_running;
            if (auto process = actor->process()) processes.push_back(*process);
            if (!networks) continue;
            const auto counted = networks->find(actor->record().id);
            if (counted != networks->end())
                numbers.networks.push_back(
                    {tenant->user_name(), actor->record().name.text(), counted->second});
        }
    }
    auto measure = [this, &numbers, &processes, users = directory_.users()] {
        for (const ProcessIdentity& process : processes) {
            const ProcessUsage usage = usage_of(*warden_, process);
            numbers.memory_bytes += usage.memory.value_or(0);
            numbers.cpu_seconds += usage.cpu_seconds.value_or(0);
        }
        numbers.disk_bytes = disk_usage(users).value_or(0);
    };
    co_await on_pool(files_, std::move(measure));
    numbers.warm = warm_->numbers();
    std::ranges::sort(numbers.networks, {},
                      [](const VmNetworkNumbers& each) { return std::tie(each.user, each.vm); });
    co_return numbers;
}

Awaitable<void> LocalEngine::close() {
    auto work = [this]() -> Awaitable<void> {
        watch_.cancel();
        co_await watch_.join();
        TaskGroup group{strand_, "letting go of tenants"};
        for (const auto& tenant : tenants()) group.spawn(tenant->let_go());
        co_await group.join();
        co_await warm_->close();
        auto stop = [this] { hasher_->stop(); };
        co_await on_pool(files_, std::move(stop));
    };
    co_await administrate(work);
}

}  // namespace noid::vm
