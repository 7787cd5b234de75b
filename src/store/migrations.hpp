#pragma once

#include <span>

#include "base/error.hpp"
#include "store/connection.hpp"

namespace noid::store {

// Brings a database to the newest schema: steps[n] leads from version n to n+1 (PRAGMA
// user_version), all of them in one transaction. A database from a newer program is `unsupported`
// and left as it is.
[[nodiscard]] Result<void> migrate(Connection& connection, std::span<const char* const> steps);

}  // namespace noid::store
