#pragma once

#include <boost/json/value.hpp>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/error.hpp"
#include "net/slot_address.hpp"

// What one guest may reach on the internet. Isolation (other guests, the host, link-local addresses,
// forged sources) is not part of it: that holds under every policy.
namespace noid::net {

inline constexpr std::size_t max_rules = 128;
inline constexpr std::size_t max_port_ranges = 32;  // of one rule

// A host name, lower case, without the final dot: "example.com", or "*.example.com" for every name
// below example.com but not itself.
struct NamePattern {
    std::string name;  // without "*."
    bool below = false;

    // `host` lower case, without the final dot.
    [[nodiscard]] bool matches(std::string_view host) const noexcept;
    bool operator==(const NamePattern&) const = default;
};
[[nodiscard]] std::optional<NamePattern> parse_name_pattern(std::string_view text);
[[nodiscard]] std::string to_string(const NamePattern& pattern);

struct PortRange {
    std::uint16_t first = 0;
    std::uint16_t last = 0;
    bool operator==(const PortRange&) const = default;
};

enum class Protocol : std::uint8_t { any, tcp, udp, icmp };
enum class Action : std::uint8_t { allow, deny };

struct AnyAddress {
    bool operator==(const AnyAddress&) const = default;
};
using Destination = std::variant<AnyAddress, Ipv4Network, NamePattern>;

struct Rule {
    Action action = Action::allow;
    Destination to;
    Protocol protocol = Protocol::any;
    std::vector<PortRange> ports;  // empty: all; with ports, `any` means TCP and UDP
    bool operator==(const Rule&) const = default;
};

// The mode says what happens to a connection that no rule matches.
enum class Mode : std::uint8_t {
    none,    // nothing passes, rules or not; names do not resolve
    egress,  // denied: only what rules allow
    open,    // allowed: all but what rules deny
};
[[nodiscard]] std::string_view name_of(Mode mode) noexcept;

// One packet flow's first packet, as the guest sent it. Port 0 where the protocol has none.
struct Flow {
    Ipv4 destination;
    std::uint8_t protocol = 0;  // IPPROTO_*
    std::uint16_t port = 0;
};

// Rules are looked at in order and the first that matches decides.
struct Policy {
    Mode mode = Mode::open;
    std::vector<Rule> rules;
    std::uint64_t upload = 0;    // bytes per second, from the guest; 0: not limited
    std::uint64_t download = 0;  // to the guest

    bool operator==(const Policy&) const = default;

    // A rule names a host. Then all the guest's DNS goes through netd, which learns the addresses.
    [[nodiscard]] bool uses_names() const noexcept;

    // `is_learned(pattern, address)`: a name that the pattern matches has resolved to the address for
    // this guest. The kernel decides the same for new connections by the rules of ruleset.hpp; this
    // is for connections that are there already when a policy changes.
    using IsLearned = std::function<bool(const NamePattern&, Ipv4)>;
    [[nodiscard]] Action decide(const Flow& flow, const IsLearned& is_learned) const;

    // Whether the guest may resolve `host`. Under `egress` only names that a rule allows (or any name,
    // when a rule allows all addresses), because a query carries data out too.
    [[nodiscard]] Action decide_name(std::string_view host) const;

    // {"mode":"egress","rules":[{"action":"allow","to":"*.debian.org","ports":["80","443"],
    //  "protocol":"tcp"}],"upload":1000000,"download":0}; absent members have the defaults above,
    // unknown ones are errors, since a misspelt rule must not open what it was to close.
    [[nodiscard]] static Result<Policy> from_json(const boost::json::value& value);
    [[nodiscard]] boost::json::value to_json() const;
};

}  // namespace noid::net
