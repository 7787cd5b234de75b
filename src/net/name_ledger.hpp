#pragma once

#include <chrono>
#include <cstddef>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "net/policy.hpp"
#include "net/ruleset.hpp"

namespace noid::net {

// An address that a name resolved to, and for how long the answer said so.
struct ResolvedAddress {
    Ipv4 address;
    std::chrono::seconds ttl{};
};

// Which names resolved to which addresses for one guest, whatever its policy was then, so that a new
// policy can tell the guest's connections by name. Bounded: the entry that ends first makes room.
class NameLedger {
  public:
    using Clock = std::chrono::steady_clock;
    static constexpr std::size_t max_entries = 4096;

    // For how long an address may be used: as long as the answer says, but at least two minutes, since
    // programs keep addresses longer than they should, and at most a day.
    [[nodiscard]] static std::chrono::seconds lifetime(std::chrono::seconds ttl);

    // `name` lower case without the final dot, or a pattern as to_string() spells it: then for all
    // that this very pattern, or a wider one, matches.
    void add(const std::string& name, Ipv4 address, std::chrono::seconds remaining, Clock::time_point now);
    [[nodiscard]] std::vector<LearnedAddress> find(const NamePattern& pattern, Clock::time_point now) const;
    [[nodiscard]] std::size_t size() const noexcept { return ends_.size(); }

  private:
    std::map<std::pair<std::string, Ipv4>, Clock::time_point> ends_;
};

}  // namespace noid::net
