#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "net/iptables.hpp"
#include "net/netlink.hpp"
#include "net/ruleset.hpp"

namespace noid::net {

// What netd changes in the host's own namespace besides slots: a table of its own in nftables, which
// isolates, and a few rules in the chains that other firewalls use too, put there by `iptables` so that
// it lists them: masquerading, forwarding, and the TCP segment size. All blocks.
class HostRules {
  public:
    // `state_dir` exists. `netfilter` is the host's and outlives this.
    HostRules(NetlinkSocket& netfilter, std::filesystem::path state_dir)
        : netfilter_{&netfilter}, state_dir_{std::move(state_dir)} {}

    // Brings everything to what `rules` say; changes nothing that is so already.
    [[nodiscard]] Result<void> apply(const HostRuleset& rules);
    // Whether all of it is still as the last apply() left it.
    [[nodiscard]] Result<bool> is_whole(const HostRuleset& rules);
    // Switches IPv4 forwarding on and remembers how it was.
    [[nodiscard]] Result<void> switch_forwarding_on();
    // Undoes all of it, and removes the tables that iptables made for it.
    [[nodiscard]] Result<void> remove();

    // Those of the wanted iptables rules that are not there.
    [[nodiscard]] static Result<std::vector<IptablesRule>> missing(const HostRuleset& rules);

  private:
    struct Before;  // how the host was before the first apply()

    [[nodiscard]] Result<Before> load_or_record();
    [[nodiscard]] Result<void> save(const Before& before);

    NetlinkSocket* netfilter_;
    std::filesystem::path state_dir_;
    std::string own_table_;  // as nft listed it after the last apply()
};

// The rules for this uplink; none without one.
[[nodiscard]] std::vector<IptablesRule> wanted_iptables_rules(const HostRuleset& rules);

}  // namespace noid::net
