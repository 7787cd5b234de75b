#include "migrate/original.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/file.hpp"
#include "store/connection.hpp"
#include "wire/json.hpp"

namespace noid::migrate {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t largest_config = 64 * 1024;

Result<bool> has_table(store::Connection& database, std::string_view name) {
    auto query = database.prepare("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?");
    if (!query) return fail(std::move(query.error()));
    return query->bind(1, name).step();
}

Result<void> expect_original(store::Connection& database) {
    for (const char* table : {"users", "vms", "checkpoints"}) {
        auto there = has_table(database, table);
        if (!there) return fail(std::move(there.error()));
        if (!*there)
            return fail(Errc::invalid,
                        fmt::format("it has no table '{}', so it is not the original's", table));
    }
    return {};
}

// Runs a query without values and gives each row to `take`.
template <class Take>
Result<void> each_row(store::Connection& database, std::string_view sql, Take take) {
    auto query = database.prepare(sql);
    if (!query) return fail(std::move(query.error()));
    for (;;) {
        auto more = query->step();
        if (!more) return fail(std::move(more.error()));
        if (!*more) return {};
        take(*query);
    }
}

Result<void> read_rows(store::Connection& database, const fs::path& directory, Original& original) {
    const auto take_user = [&](const store::Statement& row) {
        original.users.push_back({row.text(0), row.text(1), row.text(2), row.text(3)});
    };
    if (auto read = each_row(database,
                             "SELECT id, name, token_hash, created_at FROM users ORDER BY created_at, rowid",
                             take_user);
        !read)
        return read;
    const auto take_vm = [&](const store::Statement& row) {
        original.vms.push_back({row.text(0), row.text(1)});
    };
    if (auto read = each_row(database, "SELECT user_id, name FROM vms ORDER BY id", take_vm); !read)
        return read;
    const auto take_checkpoint = [&](const store::Statement& row) {
        OriginalCheckpoint checkpoint{
            .id = row.text(0), .user_id = row.text(1), .vm_name = row.text(2), .label = row.text(3)};
        checkpoint.created_at = row.text(5);
        checkpoint.cpus = static_cast<std::uint32_t>(row.optional_number(6).value_or(1));
        checkpoint.mem_mib = static_cast<std::uint64_t>(row.optional_number(7).value_or(2048));
        checkpoint.directory = directory / "storage/users" / checkpoint.user_id / "checkpoints" /
                               checkpoint.vm_name / checkpoint.id;
        // Where the original says that it is, unless the whole directory has been moved since.
        std::error_code unreadable;
        if (!fs::exists(checkpoint.directory, unreadable)) checkpoint.directory = row.text(4);
        original.checkpoints.push_back(std::move(checkpoint));
    };
    return each_row(
        database,
        "SELECT c.id, c.user_id, c.vm_name, c.label, c.snapshot_path, c.created_at, v.cpus, v.mem_mib "
        "FROM checkpoints c LEFT JOIN vms v ON v.user_id = c.user_id AND v.name = c.vm_name "
        "ORDER BY c.created_at, c.rowid",
        take_checkpoint);
}

// Golden without a description that can be read has the shape that the original assumes.
std::optional<OriginalGolden> read_golden(const fs::path& directory) {
    std::error_code unreadable;
    OriginalGolden golden{.disk = directory / "rootfs.ext4"};
    if (!fs::is_regular_file(golden.disk, unreadable)) return std::nullopt;
    const auto text = read_file(directory / "config.json", largest_config);
    if (!text) return golden;
    const auto value = wire::parse_json(*text);
    if (!value) return golden;
    wire::FieldReader fields{*value};
    fields.optional("cpus", golden.cpus);
    fields.optional("mem_mib", golden.mem_mib);
    if (!fields.done()) return OriginalGolden{.disk = golden.disk};
    return golden;
}

}  // namespace

Result<Original> read_original(const fs::path& directory) {
    auto database = store::Connection::open_read_only(directory / "noid.db");
    if (!database) return fail(std::move(database.error()));
    Original original;
    auto read = expect_original(*database);
    if (read) read = read_rows(*database, directory, original);
    if (!read) return fail(std::move(read.error()).at((directory / "noid.db").string()));
    original.golden = read_golden(directory / "golden");
    std::error_code unreadable;
    original.storage_is_away = fs::exists(directory / "storage.img", unreadable) &&
                               !fs::exists(directory / "storage/users", unreadable);
    return original;
}

}  // namespace noid::migrate
