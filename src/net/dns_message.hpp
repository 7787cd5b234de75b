#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "net/name_ledger.hpp"

// DNS messages, as far as netd must understand them. They come from guests and from the internet:
// every function takes any bytes, allocates little and never reads beyond them. The wire format is
// parsed by the C library's resolver (ns_initparse and friends).
namespace noid::net {

using Bytes = std::vector<std::uint8_t>;
using BytesView = std::span<const std::uint8_t>;

inline constexpr std::size_t max_dns_datagram = 4096;  // larger answers go over TCP

// A standard query with one question.
struct DnsQuery {
    std::uint16_t id = 0;
    std::string name;  // lower case, without the final dot; "" is the root
    std::uint16_t type = 0;
    std::uint16_t query_class = 0;
    std::size_t question_end = 0;  // bytes of header and question
};
// Nothing for everything else: answers, updates, several questions, names that are no text.
[[nodiscard]] std::optional<DnsQuery> parse_dns_query(BytesView message);

// The addresses (A records) of the answer to `query`, those behind aliases (CNAME) too. Nothing if the
// message is not an answer to it: other id or question, or not well-formed.
[[nodiscard]] std::optional<std::vector<ResolvedAddress>> parse_dns_answer(BytesView message,
                                                                           const DnsQuery& query);

enum class DnsError : std::uint8_t { server_failure = 2, refused = 5 };
// An answer without records to the message that `query` was parsed from.
[[nodiscard]] Bytes dns_error_answer(BytesView message, const DnsQuery& query, DnsError error);
// Tells the guest to ask again over TCP.
[[nodiscard]] Bytes dns_truncated_answer(BytesView message, const DnsQuery& query);

void set_dns_id(std::span<std::uint8_t> message, std::uint16_t id);

}  // namespace noid::net
