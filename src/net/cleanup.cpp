// Takes everything back that a daemon, which runs no more, made of the host.
#include "net/daemon.hpp"
#include "net/host_rules.hpp"
#include "net/slot_kernel.hpp"
#include "net/state_lock.hpp"

namespace noid::net {

Result<std::vector<std::string>> clean_up(const NetdConfig& config) {
    const auto lock = take_state_lock(config.state_dir);
    if (!lock) return fail(lock.error());
    const auto pool = AddressPool::create(config.pool);
    if (!pool) return fail(pool.error());
    auto kernel = SlotKernel::open(slot_settings(config, *pool));
    if (!kernel) return fail(kernel.error());
    const auto found = kernel->find_slots();
    if (!found) return fail(found.error());
    std::vector<std::string> removed;
    for (const auto& slot : *found) {
        // A device that only has such a name is somebody else's.
        if (!slot.has_namespace && !slot.plain_tap_of) continue;
        if (auto gone = kernel->remove(slot.index); !gone) return fail(gone.error());
        removed.push_back(pool->at(slot.index).name);
    }
    if (auto undone = HostRules{kernel->netfilter(), config.state_dir}.remove(); !undone)
        return fail(undone.error());
    std::error_code error;
    std::filesystem::remove(config.socket, error);
    std::filesystem::remove_all(config.state_dir, error);
    std::filesystem::remove(config.netns_dir, error);  // only if it is empty
    return removed;
}

}  // namespace noid::net
