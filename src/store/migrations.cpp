#include "store/migrations.hpp"

#include <fmt/format.h>

namespace noid::store {

namespace {

Result<std::size_t> schema_version(Connection& connection) {
    auto query = connection.prepare("PRAGMA user_version");
    if (!query) return fail(std::move(query.error()));
    auto row = query->step();
    if (!row) return fail(std::move(row.error()));
    return static_cast<std::size_t>(query->number(0));
}

}  // namespace

Result<void> migrate(Connection& connection, std::span<const char* const> steps) {
    auto version = schema_version(connection);
    if (!version) return fail(std::move(version.error()));
    if (*version == steps.size()) return {};

    auto transaction = Transaction::begin(connection);
    if (!transaction) return fail(std::move(transaction.error()));
    // Again, under the write lock: another process may have been faster.
    version = schema_version(connection);
    if (!version) return fail(std::move(version.error()));
    if (*version > steps.size()) {
        return fail(Errc::unsupported, fmt::format("the database has schema {}, this program knows up to {}; "
                                                   "use the newer program",
                                                   *version, steps.size()));
    }
    for (const char* step : steps.subspan(*version)) {
        if (auto done = connection.execute(step); !done) return done;
    }
    // PRAGMA takes no bound values; the number is ours.
    const std::string set_version = fmt::format("PRAGMA user_version = {}", steps.size());
    if (auto done = connection.execute(set_version.c_str()); !done) return done;
    return transaction->commit();
}

}  // namespace noid::store
