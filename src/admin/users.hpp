#pragma once

#include <string>
#include <vector>

#include "base/async.hpp"
#include "base/error.hpp"
#include "wire/server_info.hpp"
#include "wire/user_limits.hpp"

namespace noid::admin {

// The users of one data directory, as an administrator's command manages them: through the server
// that serves the directory (server_users.hpp), or without one (offline_users.hpp). Effective at once.
class Users {
  public:
    Users() = default;
    Users(const Users&) = delete;
    Users& operator=(const Users&) = delete;
    virtual ~Users() = default;

    // conflict: the name is taken; invalid: no user can have it.
    virtual Awaitable<Result<wire::UserWithToken>> create(std::string name) = 0;
    // not_found when there is no such user.
    virtual Awaitable<Result<wire::UserWithToken>> rotate_token(std::string name) = 0;
    // Ordered by creation.
    virtual Awaitable<Result<std::vector<wire::User>>> list() = 0;
    // not_found when there is no such user.
    virtual Awaitable<Result<wire::UserLimits>> limits(std::string name) = 0;
    // Replaces them all. invalid: one is too large.
    virtual Awaitable<Result<wire::UserLimits>> set_limits(std::string name, wire::OwnLimits limits) = 0;
    // Removes the user's VMs, checkpoints, logs and database too. The error says what is left and why.
    virtual Awaitable<Result<wire::User>> remove(std::string name) = 0;
};

}  // namespace noid::admin
