#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.hpp"

struct sqlite3;
struct sqlite3_stmt;

namespace noid::store {

class Statement;

// How much a committed transaction survives. Both survive the death of the process.
enum class Durability : std::uint8_t {
    process_crash,  // a power cut may take the last transactions, never the database's consistency
    power_loss,     // every commit is on the disk before it returns
};

// One SQLite database, open for reading and writing, in WAL mode with foreign keys on. Blocking: use
// it on a thread pool. One thread at a time.
//
// Errors tell apart what a caller can act on: `unavailable` (locked by another process beyond the
// busy timeout), `no_space` (disk full), `corrupt` (not a database, or damaged), `conflict` (a
// constraint: the row exists), `forbidden` (no permission), `internal` (the rest).
class Connection {
  public:
    // Creates the file (mode 0600) when it does not exist. While it is open no other process can use it.
    [[nodiscard]] static Result<Connection> open(
        const std::filesystem::path& file, Durability durability,
        std::chrono::milliseconds busy_timeout = std::chrono::seconds{5});

    // For looking only: nothing of the file, nor beside it, is changed. not_found when there is none.
    [[nodiscard]] static Result<Connection> open_read_only(const std::filesystem::path& file);

    // Compiles one statement. Values go in by bind(), never into the text.
    [[nodiscard]] Result<Statement> prepare(std::string_view sql);
    // Runs statements without values and rows (schema, PRAGMA, BEGIN).
    [[nodiscard]] Result<void> execute(const char* sql);
    // Rows changed by the last INSERT, UPDATE or DELETE.
    [[nodiscard]] std::int64_t changes() const noexcept;
    [[nodiscard]] std::int64_t last_insert_id() const noexcept;

  private:
    struct Close {
        void operator()(sqlite3* handle) const noexcept;
    };
    explicit Connection(sqlite3* handle) noexcept : handle_{handle} {}

    std::unique_ptr<sqlite3, Close> handle_;
};

// A compiled statement: bind by position (from 1), then run() or step through rows. A mistake in the
// program (wrong position or type) throws std::logic_error.
class Statement {
  public:
    Statement& bind(int position, std::string_view text);
    Statement& bind(int position, std::int64_t number);
    Statement& bind(int position, std::nullopt_t);
    template <class T>
    Statement& bind(int position, const std::optional<T>& value) {
        return value ? bind(position, *value) : bind(position, std::nullopt);
    }

    // Runs a statement that gives no rows.
    [[nodiscard]] Result<void> run();
    // The next row: true, or false after the last.
    [[nodiscard]] Result<bool> step();

    // Columns of the present row, from 0. A NULL reads as empty text or 0 where no optional is asked.
    [[nodiscard]] std::string text(int column) const;
    [[nodiscard]] std::int64_t number(int column) const;
    [[nodiscard]] std::optional<std::string> optional_text(int column) const;
    [[nodiscard]] std::optional<std::int64_t> optional_number(int column) const;

  private:
    friend class Connection;
    struct Finalize {
        void operator()(sqlite3_stmt* handle) const noexcept;
    };
    explicit Statement(sqlite3_stmt* handle) noexcept : handle_{handle} {}
    void require_bound(int code) const;

    std::unique_ptr<sqlite3_stmt, Finalize> handle_;
};

// A transaction that is rolled back unless commit() succeeded. Takes the write lock at once, so a
// busy database answers here and not half-way.
class Transaction {
  public:
    [[nodiscard]] static Result<Transaction> begin(Connection& connection);
    Transaction(Transaction&& other) noexcept;
    Transaction& operator=(Transaction&&) = delete;
    ~Transaction();

    [[nodiscard]] Result<void> commit();

  private:
    explicit Transaction(Connection& connection) noexcept : connection_{&connection} {}
    Connection* connection_;
};

}  // namespace noid::store
