#include "net/name_ledger.hpp"

#include <algorithm>

namespace noid::net {

using namespace std::chrono_literals;

std::chrono::seconds NameLedger::lifetime(std::chrono::seconds ttl) {
    return std::clamp(ttl, std::chrono::seconds{2min}, std::chrono::seconds{24h});
}

void NameLedger::add(const std::string& name, Ipv4 address, std::chrono::seconds remaining,
                     Clock::time_point now) {
    auto& end = ends_[{name, address}];
    end = std::max(end, now + remaining);
    if (ends_.size() <= max_entries) return;
    ends_.erase(std::min_element(ends_.begin(), ends_.end(),
                                 [](const auto& a, const auto& b) { return a.second < b.second; }));
}

std::vector<LearnedAddress> NameLedger::find(const NamePattern& pattern, Clock::time_point now) const {
    const std::string spelt = to_string(pattern);
    std::map<Ipv4, std::chrono::seconds> longest;
    for (const auto& [key, end] : ends_) {
        const auto& [name, address] = key;
        const auto remaining = std::chrono::ceil<std::chrono::seconds>(end - now);
        if (remaining <= 0s || (name != spelt && !pattern.matches(name))) continue;
        auto& known = longest[address];
        known = std::max(known, remaining);
    }
    std::vector<LearnedAddress> found;
    for (const auto& [address, remaining] : longest) found.push_back({address, remaining});
    return found;
}

}  // namespace noid::net
