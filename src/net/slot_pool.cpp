#include "net/slot_pool.hpp"

#include <fmt/format.h>
#include <net/if.h>

#include <algorithm>

namespace noid::net {

namespace {

bool may_touch(uid_t user, uid_t owner) {
    return user == 0 || user == owner;
}

std::unexpected<Error> no_slot(const std::string& vm) {
    return fail(Errc::not_found, fmt::format("VM '{}' has no network slot", vm));
}

}  // namespace

Result<std::vector<std::string>> SlotPool::take_over() {
    std::vector<std::string> notes;
    auto leases = lease_store_.load(notes);
    if (!leases) return fail(leases.error());
    for (auto& note : notes) note = "lease file cannot be read: " + note;
    const auto found = kernel_.find_slots();
    if (!found) return fail(found.error());

    for (const auto& slot : *found) {
        const auto name = fmt::format("{}{}", device_prefix, slot.index);
        auto lease = leases->extract(slot.index);
        const bool is_leased = !lease.empty();
        if (is_leased && slot.is_whole) {
            auto taken = take_over_leased(slot, std::move(lease.mapped()));
            if (!taken) notes.push_back(name + " cannot be taken over: " + taken.error().full());
            continue;
        }
        if (is_leased) {
            notes.push_back(name + " is damaged or has other addresses than configured: removed, its VM " +
                            lease.mapped().vm + " has no network");
            static_cast<void>(lease_store_.erase(slot.index));
        }
        if (auto taken = take_over_unleased(slot); !taken)
            notes.push_back(name + " cannot be reused: " + taken.error().full());
    }
    for (const auto& [index, lease] : *leases) {
        notes.push_back(fmt::format("the slot of VM {} is gone", lease.vm));
        if (auto erased = lease_store_.erase(index); !erased) return fail(erased.error());
    }
    return notes;
}

Result<void> SlotPool::take_over_leased(const FoundSlot& slot, Lease lease) {
    auto sockets = kernel_.open_dns(slot.index);
    if (!sockets) return fail(sockets.error());
    Held held{std::move(lease), ++last_serial_, slot.mtu, {}};
    // The kernel has kept what the guest may reach by name.
    const auto& rules = held.lease.policy.rules;
    for (std::size_t rule = 0; rule < rules.size(); ++rule) {
        const auto* pattern = std::get_if<NamePattern>(&rules[rule].to);
        if (pattern == nullptr || held.lease.policy.mode == Mode::none) continue;
        const auto learned = kernel_.list_learned(slot.index, rule);
        if (!learned) return fail(learned.error());
        for (const auto& each : *learned)
            held.ledger.add(to_string(*pattern), each.address, each.remaining, NameLedger::Clock::now());
    }
    report_(SlotAppeared{slot.index, std::move(*sockets)});
    report_(GuestArrived{slot.index, held.serial, held.lease.policy});
    by_vm_[held.lease.vm] = slot.index;
    const Lease& taken = held_.emplace(slot.index, std::move(held)).first->second.lease;
    if (!taken.asleep) return {};
    return put_to_sleep(slot.index, taken);
}

Result<void> SlotPool::take_over_unleased(const FoundSlot& slot) {
    if (slot.is_whole) {
        auto sockets = kernel_.open_dns(slot.index);
        if (!sockets) return fail(sockets.error());
        report_(SlotAppeared{slot.index, std::move(*sockets)});
        used_[slot.index] = slot.mtu;
        return {};
    }
    if (slot.has_namespace) return kernel_.remove(slot.index);
    // A device alone: a bare TAP, perhaps of a VM that still runs, or not ours at all.
    const bool is_removed = kernel_.remove_plain_tap(slot.index).has_value();
    if (is_removed) return {};
    if (slot.plain_tap_of) {
        plain_[slot.index] = *slot.plain_tap_of;
    } else {
        foreign_.insert(slot.index);
    }
    return {};
}

Result<std::uint32_t> SlotPool::free_index() const {
    const std::uint32_t total = kernel_.settings().pool.size();
    for (std::uint32_t index = 0; index < total; ++index) {
        if (!ready_.contains(index) && !used_.contains(index) && !held_.contains(index) &&
            !plain_.contains(index) && !foreign_.contains(index))
            return index;
    }
    const std::size_t asleep = counts().asleep;
    return fail(Errc::limit_exceeded,
                fmt::format("all {} network slots are in use{}", total,
                            asleep == 0 ? "" : fmt::format(", {} of them by suspended VMs", asleep)));
}

Result<std::uint32_t> SlotPool::build_one() {
    while (true) {
        const auto index = free_index();
        if (!index) return index;
        auto built = kernel_.build(*index, settings_.mtu);
        if (!built && built.error().code == Errc::conflict) {
            foreign_.insert(*index);
            continue;
        }
        if (!built) return fail(built.error());
        auto sockets = kernel_.open_dns(*index);
        if (!sockets) {
            static_cast<void>(kernel_.remove(*index));  // found again at the next start
            return fail(sockets.error());
        }
        report_(SlotAppeared{*index, std::move(*sockets)});
        return *index;
    }
}

Result<void> SlotPool::remove(std::uint32_t index) {
    report_(SlotGone{index});
    return kernel_.remove(index);
}

Result<void> SlotPool::renew_or_remove(std::uint32_t index) {
    const auto used = used_.extract(index);
    if (auto renewed = kernel_.renew(index); renewed) {
        ready_[index] = used.mapped();
        return {};
    }
    // Its TAP is still open, or it is damaged: a new one is safer than a mended one.
    return remove(index);
}

// A slot in ready_; the oldest need first, then one that was given back, then a new one.
Result<std::uint32_t> SlotPool::obtain() {
    while (ready_.empty() && !used_.empty())
        if (auto renewed = renew_or_remove(used_.begin()->first); !renewed) return fail(renewed.error());
    if (!ready_.empty()) return ready_.begin()->first;
    const auto built = build_one();
    if (built) ready_[*built] = settings_.mtu;
    return built;
}

Result<SlotPool::Held*> SlotPool::find(const std::string& vm, uid_t user, std::uint32_t* index) {
    const auto known = by_vm_.find(vm);
    // Somebody else's VM does not exist for this user.
    if (known == by_vm_.end() || !may_touch(user, held_.at(known->second).lease.user)) return no_slot(vm);
    if (index != nullptr) *index = known->second;
    return &held_.at(known->second);
}

Result<void> SlotPool::apply_policy(std::uint32_t index, Held& held, const Policy& policy) {
    const auto learned = [&](const NamePattern& pattern) {
        return held.ledger.find(pattern, NameLedger::Clock::now());
    };
    return kernel_.set_policy(index, policy, learned);
}

Result<SlotDescription> SlotPool::acquire(const AcquireRequest& request, uid_t user) {
    if (const auto known = by_vm_.find(request.vm); known != by_vm_.end()) {
        const std::uint32_t index = known->second;
        if (!may_touch(user, held_.at(index).lease.user))
            return fail(Errc::conflict, fmt::format("VM id '{}' is taken by another user", request.vm));
        if (auto set = set_policy(request.vm, request.policy, user); !set) return fail(set.error());
        Lease& lease = held_.at(index).lease;
        if (lease.holder != request.holder) {
            const bool is_another_server = lease.holder.server != request.holder.server;
            lease.holder = request.holder;
            if (lease.asleep && is_another_server) {
                report_(GuestWoke{index});
                if (auto told = put_to_sleep(index, lease); !told) return fail(told.error());
            }
            if (auto kept = lease_store_.put(index, lease); !kept) return fail(kept.error());
        }
        return describe(index, held_.at(index));
    }

    const auto index = obtain();
    if (!index) return fail(index.error());
    Held held;
    held.lease = {request.vm, user, request.holder, request.guest_mac.value_or(inner::guest_mac),
                  request.policy};
    held.serial = ++last_serial_;
    held.mtu = ready_.extract(*index).mapped();
    // From here on the slot is as if it had been given back, until all has worked.
    used_[*index] = held.mtu;
    if (auto admitted = kernel_.admit(*index, held.lease.guest_mac); !admitted) return fail(admitted.error());
    if (held.lease.policy != Policy{}) {
        if (auto set = apply_policy(*index, held, held.lease.policy); !set) return fail(set.error());
    }
    if (auto kept = lease_store_.put(*index, held.lease); !kept) return fail(kept.error());
    used_.erase(*index);
    report_(GuestArrived{*index, held.serial, held.lease.policy});
    by_vm_[request.vm] = *index;
    return describe(*index, held_.emplace(*index, std::move(held)).first->second);
}

Result<bool> SlotPool::release(const std::string& vm, uid_t user) {
    std::uint32_t index = 0;
    if (!find(vm, user, &index)) return false;
    if (auto erased = lease_store_.erase(index); !erased) return fail(erased.error());
    report_(GuestLeft{index});
    used_[index] = held_.extract(index).mapped().mtu;
    by_vm_.erase(vm);
    return true;
}

Result<std::vector<std::string>> SlotPool::retain(const RetainRequest& request, uid_t user) {
    const std::set<std::string> kept{request.vms.begin(), request.vms.end()};
    const auto is_leaked = [&](const Lease& lease) {
        const bool is_own = !request.holder.run.empty() && lease.holder.run == request.holder.run;
        return lease.user == user && lease.holder.server == request.holder.server && !is_own &&
               !kept.contains(lease.vm);
    };
    std::vector<std::string> released;
    for (const auto& [index, held] : held_)
        if (is_leaked(held.lease)) released.push_back(held.lease.vm);
    for (const auto& vm : released)
        if (auto gone = release(vm, user); !gone) return fail(gone.error());
    return released;
}

Result<Policy> SlotPool::set_policy(const std::string& vm, const Policy& policy, uid_t user) {
    std::uint32_t index = 0;
    const auto held = find(vm, user, &index);
    if (!held) return fail(held.error());
    Lease& lease = (*held)->lease;
    if (policy == lease.policy) return policy;
    if (auto set = apply_policy(index, **held, policy); !set) return fail(set.error());
    lease.policy = policy;
    report_(GuestArrived{index, (*held)->serial, policy});
    if (auto kept = lease_store_.put(index, lease); !kept) return fail(kept.error());
    return policy;
}

Result<Policy> SlotPool::policy(const std::string& vm, uid_t user) const {
    const auto known = by_vm_.find(vm);
    if (known == by_vm_.end() || !may_touch(user, held_.at(known->second).lease.user)) return no_slot(vm);
    return held_.at(known->second).lease.policy;
}

Result<void> SlotPool::put_to_sleep(std::uint32_t index, const Lease& lease) {
    auto knocks = kernel_.put_to_sleep(index);
    if (!knocks) return fail(knocks.error());
    report_(GuestFellAsleep{index, lease.vm, lease.user, lease.holder.server, std::move(*knocks)});
    return {};
}

Result<void> SlotPool::sleep(const std::string& vm, uid_t user) {
    std::uint32_t index = 0;
    const auto held = find(vm, user, &index);
    if (!held) return fail(held.error());
    Lease& lease = (*held)->lease;
    if (lease.asleep) return {};
    if (auto asleep = put_to_sleep(index, lease); !asleep) return asleep;
    lease.asleep = true;
    return lease_store_.put(index, lease);
}

Result<void> SlotPool::awake(const std::string& vm, uid_t user) {
    std::uint32_t index = 0;
    const auto held = find(vm, user, &index);
    if (!held) return fail(held.error());
    Lease& lease = (*held)->lease;
    if (!lease.asleep) return {};
    if (auto woken = kernel_.wake(index, lease.guest_mac); !woken) return woken;
    lease.asleep = false;
    report_(GuestWoke{index});
    return lease_store_.put(index, lease);
}

Result<VmStats> SlotPool::stats(const std::string& vm, uid_t user) {
    std::uint32_t index = 0;
    const auto held = find(vm, user, &index);
    if (!held) return fail(held.error());
    auto stats = kernel_.read_stats(index);
    if (!stats) return fail(stats.error());
    const Lease& lease = (*held)->lease;
    stats->vm = lease.vm;
    stats->server = lease.holder.server;
    stats->mode = lease.policy.mode;
    stats->asleep = lease.asleep;
    return stats;
}

std::vector<std::string> SlotPool::vms(uid_t user) const {
    std::vector<std::string> vms;
    for (const auto& [index, held] : held_)
        if (may_touch(user, held.lease.user)) vms.push_back(held.lease.vm);
    return vms;
}

Result<void> SlotPool::learn(std::uint32_t index, std::uint64_t lease, const std::string& name,
                             const std::vector<ResolvedAddress>& addresses) {
    const auto known = held_.find(index);
    if (known == held_.end() || known->second.serial != lease || addresses.empty()) return {};
    Held& held = known->second;
    std::vector<LearnedAddress> learned;
    for (const auto& each : addresses) {
        learned.push_back({each.address, NameLedger::lifetime(each.ttl)});
        held.ledger.add(name, learned.back().address, learned.back().remaining, NameLedger::Clock::now());
    }
    const Policy& policy = held.lease.policy;
    if (policy.mode == Mode::none) return {};
    for (std::size_t rule = 0; rule < policy.rules.size(); ++rule) {
        const auto* pattern = std::get_if<NamePattern>(&policy.rules[rule].to);
        if (pattern == nullptr || !pattern->matches(name)) continue;
        if (auto added = kernel_.add_learned(index, rule, learned); !added) return added;
    }
    return {};
}

Result<SetupReply> SlotPool::setup(std::uint32_t index, uid_t user) {
    const std::uint32_t total = kernel_.settings().pool.size();
    if (index >= total)
        return fail(Errc::invalid, fmt::format("index {} is out of range (0 to {})", index, total - 1));
    const auto addresses = kernel_.settings().pool.at(index);
    if (held_.contains(index) || foreign_.contains(index))
        return fail(Errc::conflict, fmt::format("{} is in use", addresses.name));
    if (const auto known = plain_.find(index); known != plain_.end() && !may_touch(user, known->second))
        return fail(Errc::forbidden, fmt::format("{} is another user's", addresses.name));
    if (ready_.erase(index) + used_.erase(index) > 0)
        if (auto removed = remove(index); !removed) return fail(removed.error());
    if (auto made = kernel_.make_plain_tap(index, user); !made) return fail(made.error());
    plain_[index] = user;
    return SetupReply{addresses.name, addresses.host, addresses.guest, to_string(addresses.plain_mac)};
}

Result<void> SlotPool::teardown(const std::string& tap, uid_t user) {
    const auto index = parse_slot_name(tap);
    const auto known = index ? plain_.find(*index) : plain_.end();
    if (known == plain_.end()) {
        const bool is_somebodys =
            (index && held_.contains(*index)) || (!index && ::if_nametoindex(tap.c_str()) != 0);
        if (is_somebodys || (index && foreign_.contains(*index)))
            return fail(Errc::forbidden, fmt::format("{:.64} is not a TAP that setup made", tap));
        return {};
    }
    if (!may_touch(user, known->second)) return fail(Errc::forbidden, tap + " is another user's");
    auto removed = kernel_.remove_plain_tap(*index);
    if (removed) plain_.erase(known);
    // A TAP that is still open stays, as it always did.
    if (!removed && removed.error().code != Errc::conflict) return removed;
    return {};
}

std::vector<std::string> SlotPool::active() const {
    std::vector<std::string> names;
    for (const auto& [index, held] : held_) names.push_back(fmt::format("{}{}", device_prefix, index));
    for (const auto& [index, user] : plain_) names.push_back(fmt::format("{}{}", device_prefix, index));
    std::sort(names.begin(), names.end());
    return names;
}

Result<bool> SlotPool::tidy() {
    if (!used_.empty()) {
        const std::uint32_t index = used_.begin()->first;
        const bool is_wanted = ready_.size() < settings_.ready && used_.begin()->second == settings_.mtu;
        if (!is_wanted) used_.erase(index);
        if (auto done = is_wanted ? renew_or_remove(index) : remove(index); !done) return fail(done.error());
        return true;
    }
    if (ready_.size() >= settings_.ready) return false;
    const auto built = build_one();
    if (!built && built.error().code == Errc::limit_exceeded) return false;
    if (!built) return fail(built.error());
    ready_[*built] = settings_.mtu;
    return true;
}

void SlotPool::set_mtu(std::uint32_t mtu) {
    settings_.mtu = mtu;
    for (auto each = ready_.begin(); each != ready_.end();) {
        if (each->second == mtu) {
            ++each;
        } else {
            used_.insert(*each);
            each = ready_.erase(each);
        }
    }
}

SlotPool::Counts SlotPool::counts() const {
    const auto asleep =
        std::count_if(held_.begin(), held_.end(), [](const auto& each) { return each.second.lease.asleep; });
    return {ready_.size(), held_.size(), static_cast<std::size_t>(asleep), plain_.size(),
            kernel_.settings().pool.size()};
}

SlotDescription SlotPool::describe(std::uint32_t index, const Held& held) const {
    const auto addresses = kernel_.settings().pool.at(index);
    SlotDescription slot;
    slot.index = index;
    slot.netns = kernel_.namespace_of(index).string();
    slot.tap = inner::tap;
    slot.host_ip = addresses.host;
    slot.guest_ip = addresses.guest;
    slot.guest_mac = to_string(held.lease.guest_mac);
    slot.address = fmt::format("{}/{}", inner::guest, inner::prefix_length);
    slot.gateway = inner::gateway;
    slot.nameservers = settings_.nameservers;
    slot.mtu = held.mtu;
    return slot;
}

}  // namespace noid::net
