#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/fd.hpp"
#include "net/netd_config.hpp"
#include "net/netlink.hpp"
#include "net/policy.hpp"
#include "net/protocol.hpp"
#include "net/ruleset.hpp"
#include "net/slot_address.hpp"

namespace noid::net {

struct SlotSettings {
    std::filesystem::path netns_dir;
    AddressPool pool;
    std::vector<Ipv4Network> blocked;  // as blocked_networks() gives them
    std::uint32_t max_connections = 8192;
};

[[nodiscard]] SlotSettings slot_settings(const NetdConfig& config, const AddressPool& pool);

// Where a slot's guest asks for names: sockets at the inner gateway's port 53, not blocking.
struct DnsSockets {
    Fd udp;
    Fd tcp;  // listening
};

// A device or namespace with a slot's name, as it is found at start.
struct FoundSlot {
    std::uint32_t index = 0;
    bool has_namespace = false;
    bool has_device = false;
    bool is_whole = false;              // built to the end by this version, with these addresses
    std::optional<uid_t> plain_tap_of;  // a bare TAP made by `setup` for this user
    std::uint32_t mtu = 0;
};

// Slots as the kernel has them: builds, changes and removes them, and knows nothing of VMs. One thread
// uses it; all calls block for milliseconds. A slot's index is less than the pool's size.
class SlotKernel {
  public:
    // Called in the host's network namespace.
    [[nodiscard]] static Result<SlotKernel> open(SlotSettings settings);

    [[nodiscard]] Result<std::vector<FoundSlot>> find_slots();

    // A slot with an open policy, for a guest with the usual MAC. Fails as a whole.
    [[nodiscard]] Result<void> build(std::uint32_t index, std::uint32_t mtu);
    // Makes a used slot like a new one. conflict: a process has its TAP open.
    [[nodiscard]] Result<void> renew(std::uint32_t index);
    // Whatever there is of it; a process in it loses its network.
    [[nodiscard]] Result<void> remove(std::uint32_t index);
    [[nodiscard]] Result<DnsSockets> open_dns(std::uint32_t index);

    // Lets a guest in that speaks under this MAC.
    [[nodiscard]] Result<void> admit(std::uint32_t index, const Mac& mac);
    // Its VM sleeps: what is sent to the guest is held for a while, and a packet log (packet_log.hpp, group
    // knock_group) that nobody listens to yet tells of it.
    [[nodiscard]] Result<Fd> put_to_sleep(std::uint32_t index);
    // The guest reads again: gives it what is held.
    [[nodiscard]] Result<void> wake(std::uint32_t index, const Mac& mac);
    // Holds for new connections at once; those that it denies are cut.
    [[nodiscard]] Result<void> set_policy(std::uint32_t index, const Policy& policy,
                                          const LearnedOf& learned);
    // The addresses in the set of one of the policy's rules with a name.
    [[nodiscard]] Result<void> add_learned(std::uint32_t index, std::size_t rule,
                                           const std::vector<LearnedAddress>& addresses);
    [[nodiscard]] Result<std::vector<LearnedAddress>> list_learned(std::uint32_t index, std::size_t rule);
    // Traffic and connections; the other members of the answer are left alone.
    [[nodiscard]] Result<VmStats> read_stats(std::uint32_t index);

    // A TAP in the host's namespace, as the oldest clients want it.
    [[nodiscard]] Result<void> make_plain_tap(std::uint32_t index, uid_t user);
    [[nodiscard]] Result<void> remove_plain_tap(std::uint32_t index);

    [[nodiscard]] std::filesystem::path namespace_of(std::uint32_t index) const;
    [[nodiscard]] const SlotSettings& settings() const noexcept { return settings_; }
    // The host's own, for what is done there besides slots.
    [[nodiscard]] NetlinkSocket& route() noexcept { return route_; }
    [[nodiscard]] NetlinkSocket& netfilter() noexcept { return netfilter_; }

  private:
    SlotKernel(SlotSettings settings, NetlinkSocket route, NetlinkSocket netfilter)
        : settings_{std::move(settings)}, route_{std::move(route)}, netfilter_{std::move(netfilter)} {}

    Result<void> build_inside(const SlotAddresses& addresses, std::uint32_t mtu);
    Result<void> connect_to_host(const SlotAddresses& addresses);
    Result<NetlinkSocket*> netfilter_of(std::uint32_t index);

    SlotSettings settings_;
    NetlinkSocket route_;
    NetlinkSocket netfilter_;
    // Sockets in slots' namespaces, kept: closing one waits for the kernel to free what was deleted.
    std::map<std::uint32_t, NetlinkSocket> slot_netfilter_;
};

}  // namespace noid::net
