#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>

#include "base/error.hpp"
#include "launcher/confinement.hpp"

namespace noid::launcher {

// User ids that belong to nobody else on the host; each is its own group's id, too.
struct UserRange {
    uid_t first = 0;
    std::uint32_t count = 0;
};

// Gives each confined process a user of its own. Thread-safe.
class UserPool {
  public:
    explicit UserPool(UserRange range);

    // A user that is given to nobody else until the last copy of this is gone. May outlive the pool.
    using Lease = std::shared_ptr<const Credentials>;

    // limit_exceeded when all are given away.
    [[nodiscard]] Result<Lease> take();
    // That of a process which runs already. conflict when it is given away or not of this range.
    [[nodiscard]] Result<Lease> take(uid_t user);

  private:
    struct State;
    static Lease lend(std::shared_ptr<State> state, std::uint32_t index);

    std::shared_ptr<State> state_;
};

}  // namespace noid::launcher
