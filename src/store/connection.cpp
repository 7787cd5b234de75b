#include "store/connection.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sqlite3.h>
#include <sys/stat.h>

#include <cerrno>
#include <stdexcept>
#include <utility>

#include "base/fd.hpp"

namespace noid::store {

namespace {

Errc code_for(int sqlite_code) noexcept {
    switch (sqlite_code & 0xff) {
        case SQLITE_BUSY:
        case SQLITE_LOCKED:
            return Errc::unavailable;
        case SQLITE_FULL:
            return Errc::no_space;
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
            return Errc::corrupt;
        case SQLITE_CONSTRAINT:
            return Errc::conflict;
        case SQLITE_PERM:
        case SQLITE_READONLY:
        case SQLITE_AUTH:
            return Errc::forbidden;
        case SQLITE_CANTOPEN:
            return Errc::unavailable;
        default:
            return Errc::internal;
    }
}

std::string_view advice_for(int sqlite_code) noexcept {
    switch (sqlite_code & 0xff) {
        case SQLITE_BUSY:
        case SQLITE_LOCKED:
            return "the database is locked by another process";
        case SQLITE_FULL:
            return "no space left for the database";
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
            return "the database is damaged";
        default:
            return "the database failed";
    }
}

std::unexpected<Error> sqlite_failure(sqlite3* handle, int code) {
    // The write that met ENOSPC inside a WAL or journal file is reported as an I/O error.
    if ((code & 0xff) == SQLITE_IOERR && handle != nullptr) {
        const int system = sqlite3_system_errno(handle);
        if (system == ENOSPC || system == EDQUOT) code = SQLITE_FULL;
    }
    const char* text = handle != nullptr ? sqlite3_errmsg(handle) : sqlite3_errstr(code);
    return fail(code_for(code), fmt::format("{}: {}", advice_for(code), text));
}

// SQLite's name for files that one process uses, with as many connections as it likes; others find them
// locked.
constexpr const char* one_process = "unix-excl";

// SQLite gives its -wal file the permissions of the main file, so making that one private before SQLite sees
// it makes both private.
Result<void> create_private(const std::filesystem::path& file) {
    const Fd fd{::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)};
    if (!fd) return fail_errno(errno, fmt::format("open database {}", file.filename().string()));
    return {};
}

}  // namespace

void Connection::Close::operator()(sqlite3* handle) const noexcept {
    sqlite3_close_v2(handle);
}
void Statement::Finalize::operator()(sqlite3_stmt* handle) const noexcept {
    sqlite3_finalize(handle);
}

Result<Connection> Connection::open(const std::filesystem::path& file, Durability durability,
                                    std::chrono::milliseconds busy_timeout) {
    if (auto created = create_private(file); !created) return fail(std::move(created.error()));
    sqlite3* raw = nullptr;
    constexpr int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    // Its index of the WAL is in this process's memory. By default it is a mapped file, and a write to that
    // on a full btrfs, which needs space for every change, ends the process by SIGBUS.
    const int code = sqlite3_open_v2(file.c_str(), &raw, flags, one_process);
    Connection connection{raw};
    if (code != SQLITE_OK) return sqlite_failure(raw, code);
    sqlite3_busy_timeout(raw, static_cast<int>(busy_timeout.count()));
    // A small page cache: hundreds of these may be open, each for a few rows.
    auto prepared =
        connection.execute("PRAGMA journal_mode = WAL; PRAGMA foreign_keys = ON; PRAGMA cache_size = -128;");
    if (prepared) {
        prepared = connection.execute(durability == Durability::power_loss ? "PRAGMA synchronous = FULL"
                                                                           : "PRAGMA synchronous = NORMAL");
    }
    if (!prepared) return fail(std::move(prepared.error()).at(file.filename().string()));
    return connection;
}

Result<Connection> Connection::open_read_only(const std::filesystem::path& file) {
    std::error_code unreadable;
    if (!std::filesystem::exists(file, unreadable))
        return fail(Errc::not_found, fmt::format("there is no {}", file.string()));
    sqlite3* raw = nullptr;
    constexpr int flags = SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    const int code = sqlite3_open_v2(file.c_str(), &raw, flags, nullptr);
    Connection connection{raw};
    if (code != SQLITE_OK) return sqlite_failure(raw, code);
    sqlite3_busy_timeout(raw, 5000);
    return connection;
}

Result<void> Connection::execute(const char* sql) {
    const int code = sqlite3_exec(handle_.get(), sql, nullptr, nullptr, nullptr);
    if (code != SQLITE_OK) return sqlite_failure(handle_.get(), code);
    return {};
}

Result<Statement> Connection::prepare(std::string_view sql) {
    sqlite3_stmt* raw = nullptr;
    const int code =
        sqlite3_prepare_v2(handle_.get(), sql.data(), static_cast<int>(sql.size()), &raw, nullptr);
    Statement statement{raw};
    if (code != SQLITE_OK) return sqlite_failure(handle_.get(), code);
    return statement;
}

std::int64_t Connection::changes() const noexcept {
    return sqlite3_changes64(handle_.get());
}
std::int64_t Connection::last_insert_id() const noexcept {
    return sqlite3_last_insert_rowid(handle_.get());
}

void Statement::require_bound(int code) const {
    if (code == SQLITE_NOMEM) throw std::bad_alloc{};
    if (code != SQLITE_OK) throw std::logic_error{fmt::format("bind: {}", sqlite3_errstr(code))};
}

Statement& Statement::bind(int position, std::string_view text) {
    // An empty view may hold a null pointer, which SQLite would take for NULL.
    require_bound(sqlite3_bind_text64(handle_.get(), position, text.empty() ? "" : text.data(), text.size(),
                                      SQLITE_TRANSIENT, SQLITE_UTF8));
    return *this;
}

Statement& Statement::bind(int position, std::int64_t number) {
    require_bound(sqlite3_bind_int64(handle_.get(), position, number));
    return *this;
}

Statement& Statement::bind(int position, std::nullopt_t) {
    require_bound(sqlite3_bind_null(handle_.get(), position));
    return *this;
}

Result<bool> Statement::step() {
    const int code = sqlite3_step(handle_.get());
    if (code == SQLITE_ROW) return true;
    if (code == SQLITE_DONE) return false;
    auto failure = sqlite_failure(sqlite3_db_handle(handle_.get()), code);
    sqlite3_reset(handle_.get());
    return failure;
}

Result<void> Statement::run() {
    auto row = step();
    if (!row) return fail(std::move(row.error()));
    sqlite3_reset(handle_.get());
    return {};
}

std::string Statement::text(int column) const {
    return optional_text(column).value_or("");
}
std::int64_t Statement::number(int column) const {
    return sqlite3_column_int64(handle_.get(), column);
}

std::optional<std::string> Statement::optional_text(int column) const {
    const auto* bytes = reinterpret_cast<const char*>(sqlite3_column_text(handle_.get(), column));
    if (bytes == nullptr) return std::nullopt;
    return std::string(bytes, static_cast<std::size_t>(sqlite3_column_bytes(handle_.get(), column)));
}

std::optional<std::int64_t> Statement::optional_number(int column) const {
    if (sqlite3_column_type(handle_.get(), column) == SQLITE_NULL) return std::nullopt;
    return number(column);
}

Result<Transaction> Transaction::begin(Connection& connection) {
    if (auto begun = connection.execute("BEGIN IMMEDIATE"); !begun) return fail(std::move(begun.error()));
    return Transaction{connection};
}

Transaction::Transaction(Transaction&& other) noexcept
    : connection_{std::exchange(other.connection_, nullptr)} {}

Transaction::~Transaction() {
    // SQLite has rolled back by itself after some errors; then this says so and changes nothing.
    if (connection_ != nullptr) (void)connection_->execute("ROLLBACK");
}

Result<void> Transaction::commit() {
    if (auto committed = connection_->execute("COMMIT"); !committed) return committed;
    connection_ = nullptr;
    return {};
}

}  // namespace noid::store
