#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "store/connection.hpp"

namespace noid::store {

// What changes about a VM while it exists.
struct VmRuntime {
    std::string state;  // as vm::name_of spells it
    std::string reason;
    std::string start_kind;                    // "boot", "template", ...
    std::optional<std::int64_t> started_unix;  // seconds
    std::optional<std::int64_t> pid;           // of the VMM
    std::int64_t pid_start_time = 0;           // clock ticks since the host's boot
    std::string network;                       // the slot, as JSON; empty: none
    std::string lineage;                       // what it was saved to and woken from, as JSON; empty: nothing
    std::string policy;                        // as JSON; empty: none
    std::string vmm;                           // whose process or saved memory it has; empty: as it was made
};

// One VM. `config` is what vm.json in the VM's directory says: the directory is the truth, this row
// its index.
struct VmRow {
    std::string id;
    std::string name;
    std::int64_t created_unix = 0;  // seconds
    std::string config;             // JSON
    VmRuntime runtime;
};

// An operation that was begun and not yet finished. Written before anything is done.
struct Intent {
    std::int64_t id = 0;
    std::string operation;  // "create", "start", "stop", "destroy", ...
    std::string vm_name;
    std::string data;  // JSON: what finishing or undoing it needs to know
};

// The answer to a request that carried an idempotency key.
struct Replay {
    std::string key;
    std::string request_hash;
    std::string answer;  // JSON
    std::int64_t created_unix = 0;
};

// users/<id>/noid.db: one user's VMs, the journal of operations on them, and answered idempotency
// keys. Commits survive the process; after a power cut the directories decide (see VmRow).
// Blocking, thread-safe.
class TenantDatabase {
  public:
    [[nodiscard]] static Result<std::unique_ptr<TenantDatabase>> open(const std::filesystem::path& file);

    [[nodiscard]] Result<std::vector<VmRow>> vms();  // ordered by creation
    [[nodiscard]] Result<void> add_vm(const VmRow& row);
    [[nodiscard]] Result<void> update_runtime(std::string_view vm_id, const VmRuntime& runtime);

    // The journal. begin() gives the intent's id.
    [[nodiscard]] Result<std::int64_t> begin(const Intent& intent);
    [[nodiscard]] Result<void> amend(std::int64_t intent, std::string_view data);
    [[nodiscard]] Result<void> finish(std::int64_t intent);
    [[nodiscard]] Result<std::vector<Intent>> intents();  // oldest first

    // A VM exists now: its row, the end of the intent and the replay, all or none.
    [[nodiscard]] Result<void> commit_create(std::int64_t intent, const VmRow& row,
                                             const std::optional<Replay>& replay);
    // A VM's state has changed for good: its row and the end of the intent.
    [[nodiscard]] Result<void> commit_runtime(std::int64_t intent, std::string_view vm_id,
                                              const VmRuntime& runtime);
    // A VM is gone. `intent` may be 0: none was written.
    [[nodiscard]] Result<void> commit_destroy(std::int64_t intent, std::string_view vm_id);

    // Forgets replays older than `oldest_unix`, then looks.
    [[nodiscard]] Result<std::optional<Replay>> replay(std::string_view key, std::int64_t oldest_unix);

  private:
    explicit TenantDatabase(Connection connection) : connection_{std::move(connection)} {}
    Result<void> add_vm_locked(const VmRow& row);
    Result<void> update_runtime_locked(std::string_view vm_id, const VmRuntime& runtime);
    Result<void> finish_locked(std::int64_t intent);

    std::mutex mutex_;
    Connection connection_;
};

}  // namespace noid::store
