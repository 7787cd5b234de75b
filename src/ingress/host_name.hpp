#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

// Names of guests' ports: <port>-<vm>-<user>.<domain>. Names of VMs and users may hold what a host name
// may not, and '-' besides, so they are written this way, which reads back in one way only:
//   a-z 0-9           stand for themselves
//   '-' between two of those   "--"
//   any other byte    "---" and two hexadecimal digits
// A single '-' separates. A run of four is a separator and "---". "my-app" is "my--app", "a.b" "a---2eb".
namespace noid::ingress {

struct GuestName {
    std::uint16_t port = 0;
    std::string vm;
    std::string user;
    bool operator==(const GuestName&) const = default;
};

// nullopt when it is longer than a host name's label may be (63 bytes): the port has no name then.
[[nodiscard]] std::optional<std::string> to_label(const GuestName& name);
// nullopt for whatever to_label() does not give.
[[nodiscard]] std::optional<GuestName> parse_label(std::string_view label);

// The label of a Host header below `domain`, in lower case, when it can only be meant for a guest: one
// label, a number and '-' at its beginning. nullopt for every other host: that is the API's.
[[nodiscard]] std::optional<std::string> label_of_host(std::string_view host, std::string_view domain);

}  // namespace noid::ingress
