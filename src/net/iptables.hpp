#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"

namespace noid::net {

// Runs the `iptables` program and waits for it, at most 15 s; gives what it printed. The error has its
// last words. Blocks.
[[nodiscard]] Result<std::string> run_iptables(std::vector<std::string> arguments);

// One rule, spelt as `iptables -S` spells it, so that it can be found again.
struct IptablesRule {
    std::string table;
    std::string chain;
    std::string match_and_target;  // words with single spaces: "-i noid+ -j ACCEPT"
    bool operator==(const IptablesRule&) const = default;
};

// The rules of a chain that carry the comment `mark`, from the output of `iptables -S CHAIN`.
[[nodiscard]] std::vector<IptablesRule> marked_rules(const std::string& table, const std::string& chain,
                                                     std::string_view listing, std::string_view mark);
[[nodiscard]] std::vector<std::string> words_of(std::string_view text);

}  // namespace noid::net
