// What a tenant does when the server starts: the directories are the truth, the database their index,
// the journal says what was going on.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <set>

#include "base/log.hpp"
#include "vm/checkpoint_hasher.hpp"
#include "vm/local_tenant.hpp"
#include "vm/suspension_files.hpp"
#include "vm/task_group.hpp"

namespace noid::vm {

namespace {

namespace fs = std::filesystem;

// One VM as the database and the journal know it.
struct Known {
    store::VmRow row;
    std::size_t place = 0;  // in the order of creation
    bool settle = false;    // a pause or resume was interrupted
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
        std::ranges::sort(known, {}, &Known::place);
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
            rows_.emplace(name, Known{std::move(row), rows_.size()});
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
        if (intent.operation == "fork") co_return co_await take_back_fork(intent, *name, data);
        const auto row = rows_.find(intent.vm_name);
        if (row == rows_.end() || row->second.row.id != data.vm_id) co_return co_await finish(intent);
        if (intent.operation == "start")
            co_return co_await end_processes(intent, *name, data, row->second, "");
        if (intent.operation == "stop")
            co_return co_await end_processes(intent, *name, data, row->second, "stopped");
        if (intent.operation == "suspend" && data.step == suspension_saved)
            co_return co_await finish_suspending(intent, *name, data, row->second);
        if (intent.operation == "restore" && data.step == restore_switching)
            co_return co_await finish_restoring(intent, *name, data, row->second);
        if (intent.operation == "checkpoint" || intent.operation == "suspend")
            co_return co_await drop_save(intent, *name, row->second);
        if (intent.operation == "wake" && row->second.row.runtime.state == name_of(State::suspended))
            co_return co_await end_processes(intent, *name, data, row->second, "");
        // pause, resume, wake: the recorded state holds; the vCPUs follow when the VMM is taken over.
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
        auto ended = co_await end_all(std::move(processes), tenant_->paths.vm(name));
        if (!ended) co_return ended;
        if (auto released = co_await host_.network.release(data.vm_id); !released) co_return released;
        const bool destroyed = intent.operation == "destroy";
        auto remove = [this, &name, destroyed]() -> Result<void> {
            if (auto removed = remove_tree(tenant_->paths.vm(name), host_.warden); !removed) return removed;
            // A destroy takes the checkpoints along; a VM that never came to be had none of its own.
            if (destroyed) {
                auto removed = remove_tree(tenant_->paths.checkpoints() / name.text());
                if (!removed) return removed;
            }
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
        auto ended = co_await end_all(std::move(processes), tenant_->paths.vm(name));
        if (!ended) co_return ended;
        store::VmRuntime& runtime = vm.row.runtime;
        // One that did not wake sleeps on, at its address.
        if (intent.operation != "wake") {
            if (auto released = co_await host_.network.release(data.vm_id); !released) co_return released;
            runtime.network.clear();
        }
        runtime.pid.reset();
        runtime.started_unix.reset();
        if (!state.empty()) runtime.state = state;
        co_return co_await in_database([&](store::TenantDatabase& database) {
            return database.commit_runtime(intent.id, vm.row.id, runtime);
        });
    }

    // What was being saved is not complete: the VM goes on as recorded, and the next save writes everything.
    Awaitable<Result<void>> drop_save(const store::Intent& intent, const VmName& name, Known& vm) {
        auto clean = [directory = tenant_->paths.vm(name)] { remove_unfinished_save(directory); };
        co_await on_pool(host_.files, std::move(clean));
        vm.settle = true;
        auto status = VmStatus::from_row(vm.row.runtime);
        if (!status) co_return fail(std::move(status.error()));
        if (status->process) status->lineage.basis = Lineage::Basis::none;
        vm.row.runtime = status->to_row();
        co_return co_await conclude(intent, vm);
    }

    // Everything was saved: what ran is ended, and the VM is suspended.
    Awaitable<Result<void>> finish_suspending(const store::Intent& intent, const VmName& name,
                                              const IntentData& data, Known& vm) {
        const auto now = VmStatus::from_row(vm.row.runtime);
        if (!now) co_return fail(now.error());
        if (now->process && now->process != data.process) {
            vm.settle = true;  // it was finished, and has woken since: its saved memory is of no use any more
            co_return co_await finish(intent);
        }
        auto processes = running_->in(tenant_->paths.vm(name));
        if (data.process) processes.push_back(*data.process);
        auto ended = co_await end_all(std::move(processes), tenant_->paths.vm(name));
        if (!ended) co_return ended;
        auto settle = [directory = tenant_->paths.vm(name)] { return finish_suspension(directory); };
        if (auto settled = co_await on_pool(host_.files, std::move(settle)); !settled) co_return settled;
        co_return co_await now_suspended(intent, vm, {});
    }

    // The way back is open no more: the checkpoint takes the VM's place, and wakes when it is used.
    Awaitable<Result<void>> finish_restoring(const store::Intent& intent, const VmName& name,
                                             const IntentData& data, Known& vm) {
        auto status = VmStatus::from_row(vm.row.runtime);
        if (!status) co_return fail(std::move(status.error()));
        if (status->state == State::running && status->process && status->process != data.process) {
            vm.settle = true;  // it runs already
            co_return co_await finish(intent);
        }
        const fs::path place = tenant_->paths.vm(name);
        auto processes = running_->in(place);
        if (data.process) processes.push_back(*data.process);
        auto ended = co_await end_all(std::move(processes), tenant_->paths.vm(name));
        if (!ended) co_return ended;
        auto work = [successor = tenant_->paths.successor(data.vm_id), place,
                     trash = tenant_->paths.trash(data.vm_id), &warden = host_.warden]() -> Result<void> {
            if (auto taken = take_place(successor, place, trash, warden); !taken) return taken;
            release_reserve(place);
            return {};
        };
        if (auto taken = co_await on_pool(host_.files, std::move(work)); !taken) co_return taken;
        co_return co_await now_suspended(intent, vm, data.checkpoint);
    }

    // `checkpoint`: the one that it was put back to, or empty.
    Awaitable<Result<void>> now_suspended(const store::Intent& intent, Known& vm,
                                          const std::string& checkpoint) {
        auto status = VmStatus::from_row(vm.row.runtime);
        if (!status) co_return fail(std::move(status.error()));
        const auto name = VmName::parse(vm.row.name);
        if (!name) co_return fail(name.error());
        std::error_code ignored;
        // A disk alone has no memory to wake with.
        const bool has_memory = fs::exists(tenant_->paths.vm(*name) / config_file, ignored);
        const auto saved = read_snapshot(tenant_->paths.vm(*name));
        const bool keeps_slot = has_memory && saved && saved->has_network;
        if (!keeps_slot) {
            if (auto released = co_await host_.network.release(vm.row.id); !released) co_return released;
            status->slot.reset();
        }
        status->state = has_memory ? State::suspended : State::stopped;
        status->reason.clear();
        status->process.reset();
        status->started_unix.reset();
        status->lineage.basis = has_memory ? Lineage::Basis::woken : Lineage::Basis::none;
        if (!checkpoint.empty()) status->lineage.origin = status->lineage.parent = checkpoint;
        vm.row.runtime = status->to_row();
        co_return co_await conclude(intent, vm);
    }

    Awaitable<Result<void>> conclude(const store::Intent& intent, const Known& vm) {
        auto query = [&](store::TenantDatabase& database) {
            return database.commit_runtime(intent.id, vm.row.id, vm.row.runtime);
        };
        co_return co_await in_database(std::move(query));
    }

    // None of the clones stays; their own intents deal with those that had no row yet.
    Awaitable<Result<void>> take_back_fork(const store::Intent& intent, const VmName& name,
                                           const IntentData& data) {
        std::vector<VmName> made;
        for (const auto& [row_name, vm] : rows_) {
            if (std::ranges::find(data.clones, vm.row.id) == data.clones.end()) continue;
            if (auto parsed = VmName::parse(row_name)) made.push_back(std::move(*parsed));
        }
        // The fork's own intent stays until all of them are gone.
        const store::Intent part{0, "create", {}, {}};
        for (const VmName& clone : made) {
            const IntentData its{rows_.at(clone.text()).row.id};
            if (auto removed = co_await remove_vm(part, clone, its); !removed) co_return removed;
        }
        auto remove = [place = tenant_->paths.checkpoints() / name.text() / data.checkpoint] {
            return remove_tree(place);
        };
        if (auto removed = co_await on_pool(host_.files, std::move(remove)); !removed) co_return removed;
        co_return co_await finish(intent);
    }

    Awaitable<Result<void>> end_all(std::vector<ProcessIdentity> processes, fs::path directory) {
        for (const ProcessIdentity& process : processes) {
            log::warn("stray process is ended", {{"pid", std::to_string(process.pid)}});
            auto ended = co_await end_process(host_.warden, host_.files, process, directory);
            if (!ended) co_return ended;
        }
        co_return Result<void>{};
    }

    // Something in vms/ that the database does not know.
    Awaitable<void> deal_with_unknown(const std::string& entry) {
        const fs::path path = tenant_->paths.vms() / entry;
        auto ended = co_await end_all(running_->in(path), path);
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
                rows_.emplace(entry, Known{row, rows_.size()});
            } else {
                log::error("VM directory not entered", {{"vm", entry}, {"reason", added.error().full()}});
            }
            co_return;
        }
        // Complete directories have their vm.json; this one never was, or was on its way out.
        auto remove = [this, &path] { return remove_tree(path, host_.warden); };
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
        if (status.state != State::suspended) status.slot.reset();
        status.started_unix.reset();
    }
    return status;
}

}  // namespace

Awaitable<Result<void>> LocalTenant::recover(std::shared_ptr<const WorkingDirectories> running) {
    Recovery recovery{host_, context_, running};
    auto known = co_await recovery.run();
    if (!known) co_return fail(std::move(known.error()));
    auto load = [context = context_] { return context->checkpoints.load(); };
    if (auto loaded = co_await on_pool(host_.files, std::move(load)); !loaded) co_return loaded;
    for (const SnapshotConfig& checkpoint : context_->checkpoints.all())
        host_.hasher.add(context_, checkpoint);

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
                auto ended = co_await end_process(host_.warden, host_.files, stray, directory);
                if (!ended) log::error("stray process cannot be ended", {{"reason", ended.error().full()}});
            }
        }
        auto actor = VmActor::create(host_, context_, std::move(*record), std::move(*status));
        {
            const std::unique_lock lock{mutex_};
            vms_.push_back(actor);
        }
        if (auto assigned = host_.ports.assign(actor, actor->published_ports()); !assigned) {
            log::error("VM's ports are not published",
                       {{"vm", vm.row.name}, {"reason", assigned.error().full()}});
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
