#include "net/host_rules.hpp"

#include <fmt/format.h>
#include <linux/netfilter.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <optional>

#include "base/file.hpp"
#include "net/netns.hpp"
#include "net/nftables.hpp"
#include "wire/json.hpp"

namespace noid::net {

namespace json = boost::json;

namespace {

constexpr const char* mark = "noid-netd";
constexpr const char* state_file = "host.json";
constexpr std::array tables{"nat", "filter", "mangle"};

struct Place {
    const char* table;
    const char* chain;
};
constexpr std::array places{Place{"nat", "POSTROUTING"}, Place{"filter", "FORWARD"},
                            Place{"mangle", "FORWARD"}};

Result<std::vector<IptablesRule>> list_marked(const Place& place) {
    auto listing = run_iptables({"-t", place.table, "-S", place.chain});
    if (!listing) return fail(std::move(listing.error()));
    return marked_rules(place.table, place.chain, *listing, mark);
}

// Whether iptables has made the table, be it the nftables or the older kind.
Result<bool> has_iptables_table(NetlinkSocket& netfilter, const char* table) {
    constexpr std::size_t longest = 4096;
    const auto older = read_file("/proc/thread-self/net/ip_tables_names", longest);
    if (older && ("\n" + *older).find(fmt::format("\n{}\n", table)) != std::string::npos) return true;
    return has_table(netfilter, NFPROTO_IPV4, table);
}

Result<void> change(const char* how, const IptablesRule& rule) {
    std::vector<std::string> arguments{"-t", rule.table, how, rule.chain};
    const auto words = words_of(rule.match_and_target);
    arguments.insert(arguments.end(), words.begin(), words.end());
    auto changed = run_iptables(std::move(arguments));
    if (!changed) return fail(std::move(changed.error()));
    return {};
}

// In front where the first verdict counts: a rule of somebody's that rejects all may stand at the end.
const char* how_to_add(const IptablesRule& rule) {
    return rule.table == "filter" ? "-I" : "-A";
}

Result<void> bring_to(const Place& place, std::vector<IptablesRule> wanted) {
    std::erase_if(wanted,
                  [&](const auto& rule) { return rule.table != place.table || rule.chain != place.chain; });
    auto present = list_marked(place);
    if (!present) return fail(std::move(present.error()));
    if (std::is_permutation(present->begin(), present->end(), wanted.begin(), wanted.end())) return {};
    for (const auto& rule : *present)
        if (auto removed = change("-D", rule); !removed) return removed;
    for (const auto& rule : wanted)
        if (auto added = change(how_to_add(rule), rule); !added) return added;
    return {};
}

Result<std::string> list_own_table() {
    return ask_nft(fmt::format("list table inet {}", table_name));
}

// Gives the table as nft lists it, before anybody else has touched it.
Result<std::string> set_own_table(NetlinkSocket& netfilter, const HostRuleset& rules) {
    constexpr int most_tries = 5;
    for (int tries = 1;; ++tries) {
        const auto before = ruleset_generation(netfilter);
        if (!before) return fail(before.error());
        if (auto set = run_nft(host_ruleset(rules)); !set) return fail(std::move(set.error()));
        auto listed = list_own_table();
        const auto after = ruleset_generation(netfilter);
        if (!after) return fail(after.error());
        // Ours was the one change: what was listed is what was set.
        if ((listed && *after == *before + 1) || tries == most_tries) return listed;
    }
}

}  // namespace

struct HostRules::Before {
    std::vector<std::string> tables;        // of nftables' ip family, among those that iptables uses
    std::optional<std::string> ip_forward;  // its value, if netd has changed it
};

std::vector<IptablesRule> wanted_iptables_rules(const HostRuleset& rules) {
    if (rules.uplink.empty()) return {};
    const auto rule = [&](const char* table, const char* chain, const char* match, const char* target) {
        const auto text = fmt::format("{} -m comment --comment {} -j {}", match, mark, target);
        return IptablesRule{table, chain,
                            fmt::format(fmt::runtime(text), fmt::arg("pool", rules.pool.to_string()),
                                        fmt::arg("uplink", rules.uplink), fmt::arg("slots", device_prefix))};
    };
    return {
        rule("nat", "POSTROUTING", "-s {pool} -o {uplink}", "MASQUERADE"),
        rule("filter", "FORWARD", "-i {slots}+ -o {uplink}", "ACCEPT"),
        rule("filter", "FORWARD", "-i {uplink} -o {slots}+ -m state --state RELATED,ESTABLISHED", "ACCEPT"),
        rule("mangle", "FORWARD", "-i {slots}+ -o {uplink} -p tcp -m tcp --tcp-flags SYN,RST SYN",
             "TCPMSS --clamp-mss-to-pmtu"),
        rule("mangle", "FORWARD", "-i {uplink} -o {slots}+ -p tcp -m tcp --tcp-flags SYN,RST SYN",
             "TCPMSS --clamp-mss-to-pmtu"),
    };
}

Result<HostRules::Before> HostRules::load_or_record() {
    constexpr std::size_t longest = 4096;
    const auto text = read_file(state_dir_ / state_file, longest);
    if (text) {
        const auto value = wire::parse_json(*text);
        if (!value) return fail(value.error());
        Before before;
        wire::FieldReader fields{*value};
        fields.required("tables", before.tables);
        fields.optional("ip_forward", before.ip_forward);
        if (auto read = fields.done(); !read) return fail(read.error());
        return before;
    }
    if (text.error().code != Errc::not_found) return fail(text.error());
    Before before;
    for (const char* table : tables) {
        const auto there = has_table(*netfilter_, NFPROTO_IPV4, table);
        if (!there) return fail(there.error());
        if (*there) before.tables.emplace_back(table);
    }
    if (auto saved = save(before); !saved) return fail(saved.error());
    return before;
}

Result<void> HostRules::save(const Before& before) {
    json::object object{{"tables", json::array(before.tables.begin(), before.tables.end())}};
    if (before.ip_forward) object["ip_forward"] = *before.ip_forward;
    const auto directory = open_directory(state_dir_);
    if (!directory) return fail(directory.error());
    return replace_file_at(*directory, state_file, json::serialize(object));
}

Result<void> HostRules::apply(const HostRuleset& rules) {
    if (auto before = load_or_record(); !before) return fail(before.error());
    auto set = set_own_table(*netfilter_, rules);
    if (!set) return fail(std::move(set.error()));
    own_table_ = std::move(*set);
    const auto wanted = wanted_iptables_rules(rules);
    for (const Place& place : places)
        if (auto brought = bring_to(place, wanted); !brought) return brought;
    return {};
}

Result<bool> HostRules::is_whole(const HostRuleset& rules) {
    const auto listed = list_own_table();
    if (!listed || *listed != own_table_) return false;
    const auto gone = missing(rules);
    if (!gone) return fail(gone.error());
    return gone->empty();
}

Result<void> HostRules::switch_forwarding_on() {
    auto before = load_or_record();
    if (!before) return fail(before.error());
    const auto value = read_sysctl("ipv4/ip_forward");
    if (!value) return fail(value.error());
    if (*value == "1") return {};
    before->ip_forward = *value;
    if (auto saved = save(*before); !saved) return saved;
    return write_sysctl("ipv4/ip_forward", "1");
}

Result<void> HostRules::remove() {
    const auto before = load_or_record();
    if (!before) return fail(before.error());
    if (auto removed = run_nft(remove_host_ruleset()); !removed) return removed;
    for (const Place& place : places) {
        // Listing must not make a table.
        const auto there = has_iptables_table(*netfilter_, place.table);
        const bool was_there =
            std::find(before->tables.begin(), before->tables.end(), place.table) != before->tables.end();
        if (!there) return fail(there.error());
        if (!*there && !was_there) continue;
        if (auto brought = bring_to(place, {}); !brought) return brought;
        if (was_there) continue;
        // Somebody may have begun to use what iptables made for us: then it stays.
        if (auto gone = remove_unused_table(*netfilter_, NFPROTO_IPV4, place.table); !gone)
            return fail(gone.error());
    }
    if (before->ip_forward) {
        if (auto restored = write_sysctl("ipv4/ip_forward", *before->ip_forward); !restored) return restored;
    }
    std::error_code error;
    std::filesystem::remove(state_dir_ / state_file, error);
    return {};
}

Result<std::vector<IptablesRule>> HostRules::missing(const HostRuleset& rules) {
    auto missing = wanted_iptables_rules(rules);
    for (const Place& place : places) {
        const auto present = list_marked(place);
        if (!present) return fail(present.error());
        std::erase_if(missing, [&](const auto& rule) {
            return std::find(present->begin(), present->end(), rule) != present->end();
        });
    }
    return missing;
}

}  // namespace noid::net
