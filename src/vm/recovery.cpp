// What a tenant does when the server starts: the directories are the truth, the database their index,
// the journal says what was going on.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <set>

#include "base/log.hpp"
#include "vm/local_tenant.hpp"
#include "vm/task_group.hpp"

namespace noid::vm {

namespace {

namespace fs = std::filesystem;

// One VM as the database and the journal know it.
struct Known {
    store::VmRow row;
    bool settle = false;  // a pause or resume was interrupted
};

class Recovery {
  public:
    Recovery(Host& host, std::shared_ptr<TenantContext> tenant,
             std::shared_ptr<const WorkingDirectories> running)
        : host_{host}, tenant_{std::move(tenant)}, running_{std::move(running)} {}

    Awaitable<Result<std::vector<Known>>> run() {
        if (auto read = co_await read_database(); !read) co_return fail(std::move(read.error()));
        for (const store::Intent& intent : intents_) {
            auto dealt = co_await deal_with(intent);
            if (!dealt) {
                log::error("interrupted operation stays in the journal", {{"user", tenant_->user_name},
                                                                          {"operation", intent.operation},
                                                                          {"vm", intent.vm_name},
                                                                          {"reason", dealt.error().full()}});
            }
        }
        auto entries = names_in(tenant_->paths.vms());
        if (!entries) co_return fail(std::move(entries.error()));
        for (const std::string& entry : *entries) {
            if (!rows_.contains(entry)) co_await deal_with_unknown(entry);
        }
        std::vector<Known> known;
        for (auto& [name, vm] : rows_) known.push_back(std::move(vm));
        std::ranges::stable_sort(known, {}, [](const Known& vm) { return vm.row.created_unix; });
        co_return known;
    }

  private:
    template <class Query>
    Awaitable<std::invoke_result_t<Query&, store::TenantDatabase&>> in_database(Query query) {
        auto work = [this, &query] { return query(*tenant_->database); };
        co_return co_await on_pool(host_.databases, std::move(work));
    }

    Awaitable<Result<void>> read_database() {
        auto rows = co_await in_database([](store::TenantDatabase& database) { return database.vms(); });
        if (!rows) co_return fail(std::move(rows.error()));
        auto intents =
            co_await in_database([](store::TenantDatabase& database) { return database.intents(); });
        if (!intents) co_return fail(std::move(intents.error()));
        for (store::VmRow& row : *rows) {
            const std::string name = row.name;
            rows_.emplace(name, Known{std::move(row)});
        }
        intents_ = std::move(*intents);
        co_return Result<void>{};
    }

    Awaitable<Result<void>> deal_with(const store::Intent& intent) {
        auto name = VmName::parse(intent.vm_name);
        if (!name) co_return fail(Errc::corrupt, "the journal names an impossible VM");
        const IntentData data = IntentData::from_json(intent.data);
        log::info("interrupted operation",
                  {{"user", tenant_->user_name}, {"operation", intent.operation}, {"vm", intent.vm_name}});
        if (intent.operation == "create" || intent.operation == "destroy") {
            co_return co_await remove_vm(intent, *name, data);
        }
        const auto row = rows_.find(intent.vm_name);
        if (row == rows_.end() || row->second.row.id != data.vm_id) co_return co_await finish(intent);
        if (intent.operation == "start")
            co_return co_await end_processes(intent, *name, data, row->second, "");
        if (intent.operation == "stop")
            co_return co_await end_processes(intent, *name, data, row->second, "stopped");
        // pause, resume: the recorded state holds; the vCPUs follow when the VMM is taken over.
        row->second.settle = true;
        co_return co_await finish(intent);
    }

    Awaitable<Result<void>> finish(const store::Intent& intent) {
        co_return co_await in_database(
            [id = intent.id](store::TenantDatabase& database) { return database.finish(id); });
    }

    // A create is taken back, a destroy is finished: nothing of the VM is left.
    Awaitable<Result<void>> remove_vm(const store::Intent& intent, const VmName& name,
                                      const IntentData& data) {
        const auto row = rows_.find(name.text());
        const bool has_row = row != rows_.end() && row->second.row.id == data.vm_id;
        // Another VM has the name: this one was removed completely before.
        if (row != rows_.end() && !has_row) co_return co_await finish(intent);

        std::vector<ProcessIdentity> processes = running_->in(tenant_->paths.vm(name));
        if (data.process) processes.push_back(*data.process);
        if (auto ended = co_await end_all(processes); !ended) co_return ended;
        if (auto released = co_await host_.network.release(data.vm_id); !released) co_return released;
        auto remove = [this, &name]() -> Result<void> {
            if (auto removed = remove_tree(tenant_->paths.vm(name)); !removed) return removed;
            return RotatedFile{tenant_->paths.console_log(name)}.remove();
        };
        if (auto removed = co_await on_pool(host_.files, std::move(remove)); !removed) co_return removed;
        auto committed = co_await in_database(
            [&](store::TenantDatabase& database) { return database.commit_destroy(intent.id, data.vm_id); });
        if (!committed) co_return committed;
        if (has_row) rows_.erase(row);
        co_return Result<void>{};
    }

    // A start is taken back, a stop is finished: no process, files untouched. `state` empty: as recorded.
    Awaitable<Result<void>> end_processes(const store::Intent& intent, const VmName& name,
                                          const IntentData& data, Known& vm, std::string_view state) {
        std::vector<ProcessIdentity> processes = running_->in(tenant_->paths.vm(name));
        if (data.process) processes.push_back(*data.process);
        if (auto ended = co_await end_all(processes); !ended) co_return ended;
        if (auto released = co_await host_.network.release(data.vm_id); !released) co_return released;
        store::VmRuntime& runtime = vm.row.runtime;
        runtime.pid.reset();
        runtime.network.clear();
        runtime.started_unix.reset();
        if (!state.empty()) runtime.state = state;
        co_return co_await in_database([&](store::TenantDatabase& database) {
            return database.commit_runtime(intent.id, vm.row.id, runtime);
        });
    }

    Awaitable<Result<void>> end_all(std::vector<ProcessIdentity> processes) {
        for (const ProcessIdentity& process : processes) {
            log::warn("stray process is ended", {{"pid", std::to_string(process.pid)}});
            if (auto ended = co_await end_process(process); !ended) co_return ended;
        }
        co_return Result<void>{};
    }

    // Something in vms/ that the database does not know.
    Awaitable<void> deal_with_unknown(const std::string& entry) {
        const fs::path path = tenant_->paths.vms() / entry;
        auto ended = co_await end_all(running_->in(path));
        if (!ended) {
            log::error("stray process cannot be ended", {{"reason", ended.error().full()}});
            co_return;
        }
        auto read = [&path] { return read_record(path); };
        auto record = co_await on_pool(host_.files, std::move(read));
        if (record && record->name.text() == entry) {
            VmStatus status;
            status.state = State::stopped;
            status.reason = "found on disk, unknown to the database";
            const store::VmRow row = to_row(*record, status);
            auto added = co_await in_database(
                [&row](store::TenantDatabase& database) { return database.add_vm(row); });
            log::warn("VM directory entered into the database",
                      {{"user", tenant_->user_name}, {"vm", entry}});
            if (added) {
                rows_.emplace(entry, Known{row});
            } else {
                log::error("VM directory not entered", {{"vm", entry}, {"reason", added.error().full()}});
            }
            co_return;
        }
        // Complete directories have their vm.json; this one never was, or was on its way out.
        auto remove = [&path] { return remove_tree(path); };
        auto removed = co_await on_pool(host_.files, std::move(remove));
        log::warn("stray VM directory removed", {{"user", tenant_->user_name},
                                                 {"name", entry},
                                                 {"result", removed ? "removed" : removed.error().full()}});
    }

    Host& host_;
    std::shared_ptr<TenantContext> tenant_;
    std::shared_ptr<const WorkingDirectories> running_;
    std::map<std::string, Known> rows_;
    std::vector<store::Intent> intents_;
};

// What the row says, made to agree with what can be: only running and paused VMs have a process.
VmStatus plausible(VmStatus status) {
    const bool lives = status.state == State::running || status.state == State::paused;
    if (lives && !status.process) {
        status.state = State::dead;
        status.reason = "the VMM was gone when the server started";
    }
    if (!lives) status.process.reset();
    if (!status.process) {
        status.slot.reset();
        status.started_unix.reset();
    }
    return status;
}

}  // namespace

Awaitable<Result<void>> LocalTenant::recover(std::shared_ptr<const WorkingDirectories> running) {
    Recovery recovery{host_, context_, running};
    auto known = co_await recovery.run();
    if (!known) co_return fail(std::move(known.error()));

    auto executor = co_await asio::this_coro::executor;
    TaskGroup takeovers{executor, "takeover of VMs"};
    for (Known& vm : *known) {
        auto record = VmRecord::from_json(vm.row.config);
        auto status = VmStatus::from_row(vm.row.runtime);
        if (!record || !status) {
            log::error("VM row cannot be read; its files are left alone",
                       {{"user", context_->user_name},
                        {"vm", vm.row.name},
                        {"reason", (record ? status.error() : record.error()).full()}});
            continue;
        }
        *status = plausible(std::move(*status));
        const fs::path directory = context_->paths.vm(record->name);
        std::error_code ignored;
        if (!fs::is_directory(directory, ignored)) {
            status->state = State::dead;
            status->reason = "its files are missing";
        }
        if (!status->process) {
            for (const ProcessIdentity& stray : running->in(directory)) {
                log::warn("stray process is ended",
                          {{"vm", vm.row.name}, {"pid", std::to_string(stray.pid)}});
                auto ended = co_await end_process(stray);
                if (!ended) log::error("stray process cannot be ended", {{"reason", ended.error().full()}});
            }
        }
        auto actor = VmActor::create(host_, context_, std::move(*record), std::move(*status));
        {
            const std::unique_lock lock{mutex_};
            vms_.push_back(actor);
        }
        takeovers.spawn(actor->take_over(vm.settle));
    }
    co_await takeovers.join();
    co_return Result<void>{};
}

Awaitable<Result<void>> LocalTenant::destroy_all() {
    {
        const std::unique_lock lock{mutex_};
        closed_ = true;
    }
    auto failures = std::make_shared<std::string>();
    auto destroy_one = [](std::shared_ptr<LocalTenant> tenant, std::shared_ptr<VmActor> actor,
                          std::shared_ptr<std::string> left) -> Awaitable<void> {
        auto destroyed = co_await actor->destroy();
        if (destroyed) {
            tenant->forget(actor);
        } else {
            *left += (left->empty() ? "" : "; ") + destroyed.error().what;
        }
    };
    TaskGroup group{co_await asio::this_coro::executor, "removal of VMs"};
    for (auto& actor : actors()) group.spawn(destroy_one(shared_from_this(), actor, failures));
    co_await group.join();
    if (!failures->empty()) co_return fail(Errc::internal, *failures);
    co_return Result<void>{};
}

Awaitable<void> LocalTenant::let_go() {
    {
        const std::unique_lock lock{mutex_};
        closed_ = true;
    }
    const Error reason{Errc::unavailable, "the server is stopping"};
    TaskGroup group{co_await asio::this_coro::executor, "letting go of VMs"};
    for (auto& actor : actors()) group.spawn(actor->let_go(reason));
    co_await group.join();
}

}  // namespace noid::vm
