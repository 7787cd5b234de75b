#include "store/user_database.hpp"

#include <fmt/format.h>

#include <array>

#include "store/migrations.hpp"

namespace noid::store {

namespace {

// IF NOT EXISTS: the file may come from a version that kept no schema number.
constexpr std::array schema = {
    R"(CREATE TABLE IF NOT EXISTS users (
         id TEXT PRIMARY KEY,
         name TEXT NOT NULL UNIQUE,
         token_hash TEXT NOT NULL,
         created_at TEXT NOT NULL DEFAULT (datetime('now'))
       );
       CREATE TABLE user_deletions (
         user_id TEXT PRIMARY KEY,
         begun_at TEXT NOT NULL DEFAULT (datetime('now'))
       ) STRICT;)",
    R"(ALTER TABLE users ADD COLUMN max_vms INTEGER;
       ALTER TABLE users ADD COLUMN max_memory_mib INTEGER;
       ALTER TABLE users ADD COLUMN max_vcpus INTEGER;
       ALTER TABLE users ADD COLUMN max_disk_mib INTEGER;)",
};

constexpr const char* limit_columns = "max_vms, max_memory_mib, max_vcpus, max_disk_mib";

UserLimits limits_in(const Statement& row, int first_column) {
    return {row.optional_number(first_column), row.optional_number(first_column + 1),
            row.optional_number(first_column + 2), row.optional_number(first_column + 3)};
}

}  // namespace

Result<std::unique_ptr<UserDatabase>> UserDatabase::open(const std::filesystem::path& file) {
    auto connection = Connection::open(file, Durability::power_loss);
    if (!connection) return fail(std::move(connection.error()));
    if (auto migrated = migrate(*connection, schema); !migrated) return fail(std::move(migrated.error()));
    return std::unique_ptr<UserDatabase>{new UserDatabase{std::move(*connection)}};
}

Result<std::vector<UserRow>> UserDatabase::users() {
    const std::lock_guard lock{mutex_};
    auto query = connection_.prepare(fmt::format(
        "SELECT id, name, token_hash, created_at, {} FROM users ORDER BY created_at, rowid", limit_columns));
    if (!query) return fail(std::move(query.error()));
    std::vector<UserRow> rows;
    while (true) {
        auto more = query->step();
        if (!more) return fail(std::move(more.error()));
        if (!*more) return rows;
        rows.push_back(
            {query->text(0), query->text(1), query->text(2), query->text(3), limits_in(*query, 4)});
    }
}

Result<UserRow> UserDatabase::add(std::string_view id, std::string_view name, std::string_view token_hash) {
    const std::lock_guard lock{mutex_};
    auto insert = connection_.prepare(
        "INSERT INTO users (id, name, token_hash) VALUES (?, ?, ?) RETURNING id, name, token_hash, "
        "created_at");
    if (!insert) return fail(std::move(insert.error()));
    insert->bind(1, id).bind(2, name).bind(3, token_hash);
    auto row = insert->step();
    if (!row) return fail(std::move(row.error()));
    UserRow added{insert->text(0), insert->text(1), insert->text(2), insert->text(3)};
    // The insert is committed when the statement has been stepped to its end.
    row = insert->step();
    if (!row) return fail(std::move(row.error()));
    return added;
}

Result<void> UserDatabase::take_over(const UserRow& user) {
    const std::lock_guard lock{mutex_};
    auto insert =
        connection_.prepare("INSERT INTO users (id, name, token_hash, created_at) VALUES (?, ?, ?, ?)");
    if (!insert) return fail(std::move(insert.error()));
    return insert->bind(1, user.id)
        .bind(2, user.name)
        .bind(3, user.token_hash)
        .bind(4, user.created_at)
        .run();
}

Result<void> UserDatabase::set_token_hash(std::string_view id, std::string_view token_hash) {
    const std::lock_guard lock{mutex_};
    auto update = connection_.prepare("UPDATE users SET token_hash = ? WHERE id = ?");
    if (!update) return fail(std::move(update.error()));
    if (auto done = update->bind(1, token_hash).bind(2, id).run(); !done) return done;
    if (connection_.changes() == 0) return fail(Errc::not_found, "no such user");
    return {};
}

Result<void> UserDatabase::set_limits(std::string_view id, const UserLimits& limits) {
    for (const auto& limit : {limits.max_vms, limits.max_memory_mib, limits.max_vcpus, limits.max_disk_mib}) {
        if (limit && *limit < 0) return fail(Errc::invalid, "a limit cannot be negative");
    }
    const std::lock_guard lock{mutex_};
    auto update = connection_.prepare(
        "UPDATE users SET max_vms = ?, max_memory_mib = ?, max_vcpus = ?, max_disk_mib = ? WHERE id = ?");
    if (!update) return fail(std::move(update.error()));
    update->bind(1, limits.max_vms).bind(2, limits.max_memory_mib).bind(3, limits.max_vcpus);
    if (auto done = update->bind(4, limits.max_disk_mib).bind(5, id).run(); !done) return done;
    if (connection_.changes() == 0) return fail(Errc::not_found, "no such user");
    return {};
}

Result<UserLimits> UserDatabase::limits(std::string_view id) {
    const std::lock_guard lock{mutex_};
    auto query = connection_.prepare(fmt::format("SELECT {} FROM users WHERE id = ?", limit_columns));
    if (!query) return fail(std::move(query.error()));
    auto row = query->bind(1, id).step();
    if (!row) return fail(std::move(row.error()));
    if (!*row) return fail(Errc::not_found, "no such user");
    return limits_in(*query, 0);
}

Result<void> UserDatabase::begin_deletion(std::string_view id) {
    const std::lock_guard lock{mutex_};
    auto transaction = Transaction::begin(connection_);
    if (!transaction) return fail(std::move(transaction.error()));
    auto remove = connection_.prepare("DELETE FROM users WHERE id = ?");
    if (!remove) return fail(std::move(remove.error()));
    if (auto done = remove->bind(1, id).run(); !done) return done;
    if (connection_.changes() == 0) return fail(Errc::not_found, "no such user");
    auto note = connection_.prepare("INSERT INTO user_deletions (user_id) VALUES (?)");
    if (!note) return fail(std::move(note.error()));
    if (auto done = note->bind(1, id).run(); !done) return done;
    return transaction->commit();
}

Result<void> UserDatabase::finish_deletion(std::string_view id) {
    const std::lock_guard lock{mutex_};
    auto remove = connection_.prepare("DELETE FROM user_deletions WHERE user_id = ?");
    if (!remove) return fail(std::move(remove.error()));
    return remove->bind(1, id).run();
}

Result<std::vector<std::string>> UserDatabase::deletions() {
    const std::lock_guard lock{mutex_};
    auto query = connection_.prepare("SELECT user_id FROM user_deletions");
    if (!query) return fail(std::move(query.error()));
    std::vector<std::string> ids;
    while (true) {
        auto more = query->step();
        if (!more) return fail(std::move(more.error()));
        if (!*more) return ids;
        ids.push_back(query->text(0));
    }
}

}  // namespace noid::store
