#include "net/dns_message.hpp"

#include <arpa/nameser.h>
#include <resolv.h>

#include <algorithm>
#include <array>
#include <limits>

namespace noid::net {

namespace {

// Names are compared as the C library spells them: dots and unusual bytes inside of labels escaped.
std::string normalized(const char* name) {
    std::string text{name};
    for (char& c : text)
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    if (text.ends_with('.')) text.pop_back();
    return text;
}

bool begin(BytesView message, ns_msg& handle) {
    // ns_initparse takes an int.
    if (message.size() < NS_HFIXEDSZ || message.size() > std::numeric_limits<std::uint16_t>::max())
        return false;
    return ns_initparse(message.data(), static_cast<int>(message.size()), &handle) == 0;
}

struct Alias {
    std::string owner;
    std::string target;
};
struct Address {
    std::string owner;
    ResolvedAddress resolved;
};

// The answer section's records that matter.
struct Answers {
    std::vector<Alias> aliases;
    std::vector<Address> addresses;
};

bool read_answer(ns_msg& handle, int number, Answers& out) {
    ns_rr record{};
    if (ns_parserr(&handle, ns_s_an, number, &record) != 0) return false;
    if (ns_rr_class(record) != ns_c_in) return true;
    if (ns_rr_type(record) == ns_t_a && ns_rr_rdlen(record) == NS_INADDRSZ) {
        const Ipv4 address{static_cast<std::uint32_t>(ns_get32(ns_rr_rdata(record)))};
        out.addresses.push_back(
            {normalized(ns_rr_name(record)), {address, std::chrono::seconds{ns_rr_ttl(record)}}});
    } else if (ns_rr_type(record) == ns_t_cname) {
        std::array<char, NS_MAXDNAME> target{};
        if (ns_name_uncompress(ns_msg_base(handle), ns_msg_end(handle), ns_rr_rdata(record), target.data(),
                               target.size()) < 0)
            return false;
        out.aliases.push_back({normalized(ns_rr_name(record)), normalized(target.data())});
    }
    return true;
}

// Names that `name` leads to, itself first. Aliases may come in any order and may go round in circles.
std::vector<std::string> follow(const std::string& name, const std::vector<Alias>& aliases) {
    constexpr std::size_t longest_chain = 16;
    std::vector<std::string> names{name};
    for (std::size_t at = 0; at < names.size() && names.size() < longest_chain; ++at) {
        for (const auto& alias : aliases) {
            const bool is_new = std::find(names.begin(), names.end(), alias.target) == names.end();
            if (alias.owner == names[at] && is_new) names.push_back(alias.target);
        }
    }
    return names;
}

// Spelled out, so that it is the same whatever stands before it: one that goes on in the header (by a
// compression pointer) would be another name as soon as the message gets another number.
bool is_spelled_out(BytesView name) {
    for (std::size_t at = 0; at < name.size(); at += 1U + name[at])
        if (name[at] > NS_MAXLABEL) return false;
    return true;
}

constexpr std::size_t flags_high = 2;
constexpr std::size_t flags_low = 3;
constexpr std::uint8_t is_answer = 0x80;
constexpr std::uint8_t is_truncated = 0x02;
constexpr std::uint8_t recursion_desired = 0x01;
constexpr std::uint8_t recursion_available = 0x80;

// Header and question of the query, turned into an answer without records.
Bytes empty_answer(BytesView message, const DnsQuery& query, std::uint8_t high, std::uint8_t code) {
    Bytes answer(message.begin(), message.begin() + static_cast<std::ptrdiff_t>(query.question_end));
    answer[flags_high] =
        static_cast<std::uint8_t>(is_answer | high | (message[flags_high] & recursion_desired));
    answer[flags_low] = static_cast<std::uint8_t>(recursion_available | code);
    // One question, no answer, authority or additional record.
    constexpr std::array<std::uint8_t, 8> counts{0, 1, 0, 0, 0, 0, 0, 0};
    std::copy(counts.begin(), counts.end(), answer.begin() + 4);
    return answer;
}

}  // namespace

std::optional<DnsQuery> parse_dns_query(BytesView message) {
    ns_msg handle{};
    if (!begin(message, handle)) return std::nullopt;
    if (ns_msg_getflag(handle, ns_f_qr) != 0 || ns_msg_getflag(handle, ns_f_opcode) != ns_o_query ||
        ns_msg_count(handle, ns_s_qd) != 1 || ns_msg_count(handle, ns_s_an) != 0)
        return std::nullopt;
    ns_rr question{};
    if (ns_parserr(&handle, ns_s_qd, 0, &question) != 0) return std::nullopt;
    const int name_length = dn_skipname(message.data() + NS_HFIXEDSZ, message.data() + message.size());
    if (name_length < 0 ||
        !is_spelled_out(message.subspan(NS_HFIXEDSZ, static_cast<std::size_t>(name_length))))
        return std::nullopt;
    DnsQuery query;
    query.id = static_cast<std::uint16_t>(ns_msg_id(handle));
    query.name = normalized(ns_rr_name(question));
    query.type = static_cast<std::uint16_t>(ns_rr_type(question));
    query.query_class = static_cast<std::uint16_t>(ns_rr_class(question));
    query.question_end = NS_HFIXEDSZ + static_cast<std::size_t>(name_length) + NS_QFIXEDSZ;
    if (query.question_end > message.size()) return std::nullopt;
    return query;
}

std::optional<std::vector<ResolvedAddress>> parse_dns_answer(BytesView message, const DnsQuery& query) {
    ns_msg handle{};
    if (!begin(message, handle) || ns_msg_getflag(handle, ns_f_qr) == 0 || ns_msg_id(handle) != query.id ||
        ns_msg_count(handle, ns_s_qd) != 1)
        return std::nullopt;
    ns_rr question{};
    if (ns_parserr(&handle, ns_s_qd, 0, &question) != 0 || normalized(ns_rr_name(question)) != query.name ||
        ns_rr_type(question) != query.type || ns_rr_class(question) != query.query_class)
        return std::nullopt;
    Answers answers;
    for (int number = 0; number < ns_msg_count(handle, ns_s_an); ++number)
        if (!read_answer(handle, number, answers)) return std::nullopt;
    const auto names = follow(query.name, answers.aliases);
    std::vector<ResolvedAddress> addresses;
    for (const auto& address : answers.addresses)
        if (std::find(names.begin(), names.end(), address.owner) != names.end())
            addresses.push_back(address.resolved);
    return addresses;
}

Bytes dns_error_answer(BytesView message, const DnsQuery& query, DnsError error) {
    return empty_answer(message, query, 0, static_cast<std::uint8_t>(error));
}

Bytes dns_truncated_answer(BytesView message, const DnsQuery& query) {
    return empty_answer(message, query, is_truncated, 0);
}

void set_dns_id(std::span<std::uint8_t> message, std::uint16_t id) {
    message[0] = static_cast<std::uint8_t>(id >> 8);
    message[1] = static_cast<std::uint8_t>(id & 255);
}

}  // namespace noid::net
