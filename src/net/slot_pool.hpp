#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "base/error.hpp"
#include "net/lease_store.hpp"
#include "net/name_ledger.hpp"
#include "net/protocol.hpp"
#include "net/slot_kernel.hpp"

namespace noid::net {

// What the DNS service and the watch over sleeping guests have to know, in the order in which it happened.
struct SlotAppeared {
    std::uint32_t index = 0;
    DnsSockets sockets;
};
struct GuestArrived {  // or its policy changed
    std::uint32_t index = 0;
    std::uint64_t lease = 0;  // unlike that of every other guest, before or after
    Policy policy;
};
struct GuestFellAsleep {
    std::uint32_t index = 0;
    std::string vm;
    uid_t user = 0;
    std::string server;
    Fd knocks;  // a packet log, group knock_group
};
struct GuestWoke {
    std::uint32_t index = 0;
};
struct GuestLeft {
    std::uint32_t index = 0;
};
struct SlotGone {
    std::uint32_t index = 0;
};
using SlotEvent = std::variant<SlotAppeared, GuestArrived, GuestFellAsleep, GuestWoke, GuestLeft, SlotGone>;

// Which slots there are and whose they are: keeps some ready, hands them out, takes them back, and
// finds all of it again after a restart. One thread uses it; calls block for milliseconds. A user may
// only touch what that user asked for; root may touch all.
class SlotPool {
  public:
    struct Settings {
        std::uint32_t ready = 8;
        std::uint32_t mtu = 1500;              // of slots built from now on
        std::vector<std::string> nameservers;  // that guests are told
    };
    using Report = std::function<void(SlotEvent)>;

    SlotPool(SlotKernel kernel, LeaseStore leases, Settings settings, Report report)
        : kernel_{std::move(kernel)},
          lease_store_{std::move(leases)},
          settings_{std::move(settings)},
          report_{std::move(report)} {}

    // What an earlier daemon left: leased slots go on as they are, others are made ready or removed.
    // Gives a line for each thing worth a person's attention.
    [[nodiscard]] Result<std::vector<std::string>> take_over();

    // limit_exceeded: every index is in use. Finds the same slot again for the same VM.
    [[nodiscard]] Result<SlotDescription> acquire(const AcquireRequest& request, uid_t user);
    // False: the VM had none. What is left to do with the slot, tidy() does.
    [[nodiscard]] Result<bool> release(const std::string& vm, uid_t user);
    // The VMs that lost their slots.
    [[nodiscard]] Result<std::vector<std::string>> retain(const RetainRequest& request, uid_t user);
    [[nodiscard]] Result<Policy> set_policy(const std::string& vm, const Policy& policy, uid_t user);
    [[nodiscard]] Result<Policy> policy(const std::string& vm, uid_t user) const;
    // Both are as well asked twice. not_found: the VM has no slot.
    [[nodiscard]] Result<void> sleep(const std::string& vm, uid_t user);
    [[nodiscard]] Result<void> awake(const std::string& vm, uid_t user);
    [[nodiscard]] Result<VmStats> stats(const std::string& vm, uid_t user);
    // Those with a slot that this user may touch, by slot.
    [[nodiscard]] std::vector<std::string> vms(uid_t user) const;

    // Bare TAPs for the oldest clients.
    [[nodiscard]] Result<SetupReply> setup(std::uint32_t index, uid_t user);
    [[nodiscard]] Result<void> teardown(const std::string& tap, uid_t user);
    // Names of slots and TAPs that somebody has, sorted as text.
    [[nodiscard]] std::vector<std::string> active() const;

    // The guest of this lease is about to get an answer with these addresses: lets them through where
    // its policy says so. Returns when the kernel knows. A lease that is over is no error.
    [[nodiscard]] Result<void> learn(std::uint32_t index, std::uint64_t lease, const std::string& name,
                                     const std::vector<ResolvedAddress>& addresses);

    // One step towards as many ready slots as there should be, without leftovers. False: nothing to do.
    // After a failure, the next acquire() tries again.
    [[nodiscard]] Result<bool> tidy();

    // Of slots made from now on; those that are ready with another MTU are made anew.
    void set_mtu(std::uint32_t mtu);

    struct Counts {
        std::size_t ready = 0;
        std::size_t leased = 0;
        std::size_t asleep = 0;  // of those leased
        std::size_t plain = 0;
        std::size_t total = 0;  // as many as there are addresses for
    };
    [[nodiscard]] Counts counts() const;
    [[nodiscard]] SlotKernel& kernel() noexcept { return kernel_; }

  private:
    struct Held {
        Lease lease;
        std::uint64_t serial = 0;
        std::uint32_t mtu = 1500;
        NameLedger ledger;
    };

    Result<void> take_over_leased(const FoundSlot& slot, Lease lease);
    Result<void> take_over_unleased(const FoundSlot& slot);
    Result<std::uint32_t> build_one();
    Result<std::uint32_t> obtain();
    Result<void> renew_or_remove(std::uint32_t index);
    Result<void> remove(std::uint32_t index);
    Result<std::uint32_t> free_index() const;
    Result<void> put_to_sleep(std::uint32_t index, const Lease& lease);
    Result<void> apply_policy(std::uint32_t index, Held& held, const Policy& policy);
    Result<Held*> find(const std::string& vm, uid_t user, std::uint32_t* index = nullptr);
    [[nodiscard]] SlotDescription describe(std::uint32_t index, const Held& held) const;

    SlotKernel kernel_;
    LeaseStore lease_store_;
    Settings settings_;
    Report report_;
    // An index is in at most one of these.
    std::map<std::uint32_t, std::uint32_t> ready_;  // index → MTU
    std::map<std::uint32_t, std::uint32_t> used_;   // given back, to be renewed; index → MTU
    std::map<std::uint32_t, Held> held_;
    std::map<std::uint32_t, uid_t> plain_;
    std::set<std::uint32_t> foreign_;  // names that something else in the kernel has
    std::map<std::string, std::uint32_t> by_vm_;
    std::uint64_t last_serial_ = 0;
};

}  // namespace noid::net
