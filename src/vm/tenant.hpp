#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/async.hpp"
#include "base/error.hpp"
#include "vm/checkpoints.hpp"
#include "vm/types.hpp"
#include "vm/vm.hpp"

namespace noid::vm {

// One user's VMs. The code that serves a request holds only this, so another user's VM cannot be
// named. Thread-safe; members may be awaited from any executor.
class Tenant {
  public:
    Tenant() = default;
    Tenant(const Tenant&) = delete;
    Tenant& operator=(const Tenant&) = delete;
    virtual ~Tenant() = default;

    [[nodiscard]] virtual const std::string& user_id() const = 0;
    [[nodiscard]] virtual const std::string& user_name() const = 0;

    struct Created {
        VmView vm;
        bool replayed = false;  // an idempotency key was seen before: nothing new was made
    };
    // Makes and boots a VM and waits until its agent answers. All or nothing: when this fails or
    // is cancelled nothing is left. conflict: the name is taken ("VM 'x' already exists").
    virtual Awaitable<Result<Created>> create(CreateRequest request) = 0;

    // Ordered by creation. No I/O.
    [[nodiscard]] virtual std::vector<VmView> list() const = 0;
    // Grows with every change that list() would show; the same number, the same list.
    [[nodiscard]] virtual std::uint64_t revision() const = 0;
    // not_found ("VM 'x' not found").
    [[nodiscard]] virtual Result<std::shared_ptr<Vm>> find(const VmName& name) const = 0;

    // Stops and removes it with its files and checkpoints. Gives false when there was none. Always succeeds
    // in the end: what cannot be removed now is journalled and removed later.
    virtual Awaitable<Result<bool>> destroy(const VmName& name) = 0;

    // Lives as long as the tenant.
    [[nodiscard]] virtual Checkpoints& checkpoints() = 0;
};

}  // namespace noid::vm
