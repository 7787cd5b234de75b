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

// What is set for one user; nullopt: the server's default holds.
struct UserLimits {
    std::optional<std::int64_t> max_vms{};
    std::optional<std::int64_t> max_memory_mib{};  // 0 here and below: not bounded
    std::optional<std::int64_t> max_vcpus{};
    std::optional<std::int64_t> max_disk_mib{};
    bool operator==(const UserLimits&) const = default;
};

struct UserRow {
    std::string id;          // UUID
    std::string name;        // unique
    std::string token_hash;  // SHA-256 of the token as presented, lower-case hexadecimal
    std::string created_at;  // UTC "YYYY-MM-DD HH:MM:SS"
    UserLimits limits{};
};

// <data_dir>/noid.db: who may use this server. The `users` table is the one of earlier versions, so
// their file opens here. Commits survive a power cut: a token that was shown is valid afterwards.
// Blocking, thread-safe.
class UserDatabase {
  public:
    [[nodiscard]] static Result<std::unique_ptr<UserDatabase>> open(const std::filesystem::path& file);

    // Ordered by creation.
    [[nodiscard]] Result<std::vector<UserRow>> users();
    // conflict: the name is taken. Gives the row with its creation time.
    [[nodiscard]] Result<UserRow> add(std::string_view id, std::string_view name,
                                      std::string_view token_hash);
    // A user of another data directory, with everything as it was there. conflict: id or name are taken.
    [[nodiscard]] Result<void> take_over(const UserRow& user);
    // not_found when there is no such user.
    [[nodiscard]] Result<void> set_token_hash(std::string_view id, std::string_view token_hash);
    // not_found when there is no such user; invalid for a negative number.
    [[nodiscard]] Result<void> set_limits(std::string_view id, const UserLimits& limits);
    [[nodiscard]] Result<UserLimits> limits(std::string_view id);

    // Takes a user's row away and notes, in the same transaction, that the user's files must still
    // go. finish_deletion() when they are gone.
    [[nodiscard]] Result<void> begin_deletion(std::string_view id);
    [[nodiscard]] Result<void> finish_deletion(std::string_view id);
    // Ids of users whose files must still go.
    [[nodiscard]] Result<std::vector<std::string>> deletions();

  private:
    explicit UserDatabase(Connection connection) : connection_{std::move(connection)} {}

    std::mutex mutex_;
    Connection connection_;
};

}  // namespace noid::store
