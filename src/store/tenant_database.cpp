#include "store/tenant_database.hpp"

#include <array>

#include "store/migrations.hpp"

namespace noid::store {

namespace {

constexpr std::array schema = {
    R"(CREATE TABLE vms (
         id TEXT PRIMARY KEY,
         name TEXT NOT NULL UNIQUE,
         created_unix INTEGER NOT NULL,
         config TEXT NOT NULL,
         state TEXT NOT NULL,
         reason TEXT NOT NULL DEFAULT '',
         start_kind TEXT NOT NULL DEFAULT 'boot',
         started_unix INTEGER,
         pid INTEGER,
         pid_start_time INTEGER NOT NULL DEFAULT 0,
         network TEXT NOT NULL DEFAULT ''
       ) STRICT;
       CREATE TABLE journal (
         id INTEGER PRIMARY KEY AUTOINCREMENT,
         operation TEXT NOT NULL,
         vm_name TEXT NOT NULL,
         data TEXT NOT NULL DEFAULT '{}'
       ) STRICT;
       CREATE TABLE replays (
         key TEXT PRIMARY KEY,
         request_hash TEXT NOT NULL,
         answer TEXT NOT NULL,
         created_unix INTEGER NOT NULL
       ) STRICT;
       CREATE INDEX replays_by_age ON replays (created_unix);)",
    R"(ALTER TABLE vms ADD COLUMN lineage TEXT NOT NULL DEFAULT '';
       ALTER TABLE vms ADD COLUMN policy TEXT NOT NULL DEFAULT '';)",
    "ALTER TABLE vms ADD COLUMN vmm TEXT NOT NULL DEFAULT '';",
};

}  // namespace

Result<std::unique_ptr<TenantDatabase>> TenantDatabase::open(const std::filesystem::path& file) {
    auto connection = Connection::open(file, Durability::process_crash);
    if (!connection) return fail(std::move(connection.error()));
    if (auto migrated = migrate(*connection, schema); !migrated) return fail(std::move(migrated.error()));
    return std::unique_ptr<TenantDatabase>{new TenantDatabase{std::move(*connection)}};
}

Result<std::vector<VmRow>> TenantDatabase::vms() {
    const std::lock_guard lock{mutex_};
    auto query = connection_.prepare(
        "SELECT id, name, created_unix, config, state, reason, start_kind, started_unix, pid, "
        "pid_start_time, network, lineage, policy, vmm "
        "FROM vms ORDER BY created_unix, rowid");
    if (!query) return fail(std::move(query.error()));
    std::vector<VmRow> rows;
    while (true) {
        auto more = query->step();
        if (!more) return fail(std::move(more.error()));
        if (!*more) return rows;
        VmRow row{query->text(0), query->text(1), query->number(2), query->text(3), {}};
        row.runtime = {query->text(4),
                       query->text(5),
                       query->text(6),
                       query->optional_number(7),
                       query->optional_number(8),
                       query->number(9),
                       query->text(10),
                       query->text(11),
                       query->text(12),
                       query->text(13)};
        rows.push_back(std::move(row));
    }
}

Result<void> TenantDatabase::add_vm_locked(const VmRow& row) {
    auto insert = connection_.prepare(
        "INSERT INTO vms (id, name, created_unix, config, state, reason, start_kind, started_unix, pid, "
        "pid_start_time, network, lineage, policy, vmm) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
    if (!insert) return fail(std::move(insert.error()));
    const VmRuntime& runtime = row.runtime;
    insert->bind(1, row.id).bind(2, row.name).bind(3, row.created_unix).bind(4, row.config);
    insert->bind(5, runtime.state)
        .bind(6, runtime.reason)
        .bind(7, runtime.start_kind)
        .bind(8, runtime.started_unix);
    insert->bind(9, runtime.pid).bind(10, runtime.pid_start_time).bind(11, runtime.network);
    insert->bind(12, runtime.lineage).bind(13, runtime.policy).bind(14, runtime.vmm);
    return insert->run();
}

Result<void> TenantDatabase::update_runtime_locked(std::string_view vm_id, const VmRuntime& runtime) {
    auto update = connection_.prepare(
        "UPDATE vms SET state = ?, reason = ?, start_kind = ?, started_unix = ?, pid = ?, pid_start_time = "
        "?, "
        "network = ?, lineage = ?, policy = ?, vmm = ? WHERE id = ?");
    if (!update) return fail(std::move(update.error()));
    update->bind(1, runtime.state)
        .bind(2, runtime.reason)
        .bind(3, runtime.start_kind)
        .bind(4, runtime.started_unix);
    update->bind(5, runtime.pid).bind(6, runtime.pid_start_time).bind(7, runtime.network);
    update->bind(8, runtime.lineage).bind(9, runtime.policy).bind(10, runtime.vmm).bind(11, vm_id);
    if (auto done = update->run(); !done) return done;
    if (connection_.changes() == 0) return fail(Errc::not_found, "the VM has no row in the database");
    return {};
}

Result<void> TenantDatabase::finish_locked(std::int64_t intent) {
    auto remove = connection_.prepare("DELETE FROM journal WHERE id = ?");
    if (!remove) return fail(std::move(remove.error()));
    return remove->bind(1, intent).run();
}

Result<void> TenantDatabase::add_vm(const VmRow& row) {
    const std::lock_guard lock{mutex_};
    return add_vm_locked(row);
}

Result<void> TenantDatabase::update_runtime(std::string_view vm_id, const VmRuntime& runtime) {
    const std::lock_guard lock{mutex_};
    return update_runtime_locked(vm_id, runtime);
}

Result<std::int64_t> TenantDatabase::begin(const Intent& intent) {
    const std::lock_guard lock{mutex_};
    auto insert = connection_.prepare("INSERT INTO journal (operation, vm_name, data) VALUES (?, ?, ?)");
    if (!insert) return fail(std::move(insert.error()));
    insert->bind(1, intent.operation)
        .bind(2, intent.vm_name)
        .bind(3, intent.data.empty() ? "{}" : intent.data);
    if (auto done = insert->run(); !done) return fail(std::move(done.error()));
    return connection_.last_insert_id();
}

Result<void> TenantDatabase::amend(std::int64_t intent, std::string_view data) {
    const std::lock_guard lock{mutex_};
    auto update = connection_.prepare("UPDATE journal SET data = ? WHERE id = ?");
    if (!update) return fail(std::move(update.error()));
    return update->bind(1, data).bind(2, intent).run();
}

Result<void> TenantDatabase::finish(std::int64_t intent) {
    const std::lock_guard lock{mutex_};
    return finish_locked(intent);
}

Result<std::vector<Intent>> TenantDatabase::intents() {
    const std::lock_guard lock{mutex_};
    auto query = connection_.prepare("SELECT id, operation, vm_name, data FROM journal ORDER BY id");
    if (!query) return fail(std::move(query.error()));
    std::vector<Intent> found;
    while (true) {
        auto more = query->step();
        if (!more) return fail(std::move(more.error()));
        if (!*more) return found;
        found.push_back({query->number(0), query->text(1), query->text(2), query->text(3)});
    }
}

Result<void> TenantDatabase::commit_create(std::int64_t intent, const VmRow& row,
                                           const std::optional<Replay>& replay) {
    const std::lock_guard lock{mutex_};
    auto transaction = Transaction::begin(connection_);
    if (!transaction) return fail(std::move(transaction.error()));
    if (auto done = add_vm_locked(row); !done) return done;
    if (auto done = finish_locked(intent); !done) return done;
    if (replay) {
        auto insert = connection_.prepare(
            "INSERT INTO replays (key, request_hash, answer, created_unix) VALUES (?, ?, ?, ?)");
        if (!insert) return fail(std::move(insert.error()));
        insert->bind(1, replay->key).bind(2, replay->request_hash).bind(3, replay->answer);
        if (auto done = insert->bind(4, replay->created_unix).run(); !done) return done;
    }
    return transaction->commit();
}

Result<void> TenantDatabase::commit_runtime(std::int64_t intent, std::string_view vm_id,
                                            const VmRuntime& runtime) {
    const std::lock_guard lock{mutex_};
    auto transaction = Transaction::begin(connection_);
    if (!transaction) return fail(std::move(transaction.error()));
    if (auto done = update_runtime_locked(vm_id, runtime); !done) return done;
    if (auto done = finish_locked(intent); !done) return done;
    return transaction->commit();
}

Result<void> TenantDatabase::commit_destroy(std::int64_t intent, std::string_view vm_id) {
    const std::lock_guard lock{mutex_};
    auto transaction = Transaction::begin(connection_);
    if (!transaction) return fail(std::move(transaction.error()));
    auto remove = connection_.prepare("DELETE FROM vms WHERE id = ?");
    if (!remove) return fail(std::move(remove.error()));
    if (auto done = remove->bind(1, vm_id).run(); !done) return done;
    if (auto done = finish_locked(intent); !done) return done;
    return transaction->commit();
}

Result<std::optional<Replay>> TenantDatabase::replay(std::string_view key, std::int64_t oldest_unix) {
    const std::lock_guard lock{mutex_};
    auto expire = connection_.prepare("DELETE FROM replays WHERE created_unix < ?");
    if (!expire) return fail(std::move(expire.error()));
    if (auto done = expire->bind(1, oldest_unix).run(); !done) return fail(std::move(done.error()));
    auto query =
        connection_.prepare("SELECT key, request_hash, answer, created_unix FROM replays WHERE key = ?");
    if (!query) return fail(std::move(query.error()));
    auto row = query->bind(1, key).step();
    if (!row) return fail(std::move(row.error()));
    if (!*row) return std::nullopt;
    return Replay{query->text(0), query->text(1), query->text(2), query->number(3)};
}

}  // namespace noid::store
