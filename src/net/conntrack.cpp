#include "net/conntrack.hpp"

#include <arpa/inet.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>
#include <netlink/attr.h>
#include <netlink/msg.h>

#include <array>
#include <new>
#include <optional>
#include <string>
#include <vector>

namespace noid::net {

namespace {

template <std::size_t N>
using Fields = std::array<nlattr*, N>;

NetlinkMessage make_message(int operation, int flags) {
    constexpr int subsystem = NFNL_SUBSYS_CTNETLINK << 8;
    NetlinkMessage message{nlmsg_alloc_simple(subsystem | operation, flags)};
    if (!message) throw std::bad_alloc{};
    nfgenmsg header{};
    header.nfgen_family = AF_INET;
    header.version = NFNETLINK_V0;
    if (nlmsg_append(message.get(), &header, sizeof header, NLMSG_ALIGNTO) < 0) throw std::bad_alloc{};
    return message;
}

template <std::size_t N>
bool parse(nlattr* nest, Fields<N>& out) {
    return nest != nullptr && nla_parse_nested(out.data(), static_cast<int>(N) - 1, nest, nullptr) >= 0;
}

std::uint16_t port_of(nlattr* attribute) {
    return attribute == nullptr ? std::uint16_t{0} : ntohs(nla_get_u16(attribute));
}

// One entry of the table: the first packet's tuple, and its bytes, which name the entry to the kernel.
struct Entry {
    Ipv4 source;
    Flow flow;
    std::string tuple;
};

std::optional<Entry> parse_entry(const nlmsghdr& header) {
    Fields<CTA_MAX + 1> fields{};
    Fields<CTA_TUPLE_MAX + 1> tuple{};
    Fields<CTA_IP_MAX + 1> addresses{};
    Fields<CTA_PROTO_MAX + 1> protocol{};
    if (nlmsg_parse(const_cast<nlmsghdr*>(&header), sizeof(nfgenmsg), fields.data(), CTA_MAX, nullptr) < 0 ||
        !parse(fields[CTA_TUPLE_ORIG], tuple) || !parse(tuple[CTA_TUPLE_IP], addresses) ||
        !parse(tuple[CTA_TUPLE_PROTO], protocol) || addresses[CTA_IP_V4_SRC] == nullptr ||
        addresses[CTA_IP_V4_DST] == nullptr || protocol[CTA_PROTO_NUM] == nullptr)
        return std::nullopt;
    Entry entry;
    entry.source = Ipv4{ntohl(nla_get_u32(addresses[CTA_IP_V4_SRC]))};
    entry.flow.destination = Ipv4{ntohl(nla_get_u32(addresses[CTA_IP_V4_DST]))};
    entry.flow.protocol = nla_get_u8(protocol[CTA_PROTO_NUM]);
    entry.flow.port = port_of(protocol[CTA_PROTO_DST_PORT]);
    entry.tuple.assign(static_cast<const char*>(nla_data(fields[CTA_TUPLE_ORIG])),
                       static_cast<std::size_t>(nla_len(fields[CTA_TUPLE_ORIG])));
    return entry;
}

// The connections that `source` opened. The kernel picks them (since 5.8); older ones send all.
Result<std::vector<Entry>> list_connections(NetlinkSocket& netfilter, Ipv4 source) {
    auto message = make_message(IPCTNL_MSG_CT_GET, NLM_F_DUMP);
    nlattr* const tuple = nla_nest_start(message.get(), CTA_TUPLE_ORIG);
    nlattr* const addresses = nla_nest_start(message.get(), CTA_TUPLE_IP);
    nla_put_u32(message.get(), CTA_IP_V4_SRC, htonl(source.to_uint()));
    nla_nest_end(message.get(), addresses);
    nla_nest_end(message.get(), tuple);
    nlattr* const filter = nla_nest_start(message.get(), CTA_FILTER);
    constexpr std::uint32_t by_source_address = 1U
                                                << 0;  // CTA_FILTER_F_CTA_IP_SRC, in no header of user space
    nla_put_u32(message.get(), CTA_FILTER_ORIG_FLAGS, by_source_address);
    nla_put_u32(message.get(), CTA_FILTER_REPLY_FLAGS, 0);
    nla_nest_end(message.get(), filter);

    std::vector<Entry> entries;
    auto listed = netfilter.query(std::move(message), "list connections", [&](const nlmsghdr& header) {
        auto entry = parse_entry(header);
        if (entry && entry->source == source) entries.push_back(std::move(*entry));
    });
    if (!listed) return fail(listed.error());
    return entries;
}

Result<std::uint32_t> count_entries(NetlinkSocket& netfilter) {
    std::uint32_t count = 0;
    auto asked = netfilter.query(make_message(IPCTNL_MSG_CT_GET_STATS, 0), "count connections",
                                 [&](const nlmsghdr& header) {
                                     Fields<CTA_STATS_GLOBAL_MAX + 1> fields{};
                                     if (nlmsg_parse(const_cast<nlmsghdr*>(&header), sizeof(nfgenmsg),
                                                     fields.data(), CTA_STATS_GLOBAL_MAX, nullptr) >= 0 &&
                                         fields[CTA_STATS_GLOBAL_ENTRIES] != nullptr)
                                         count = ntohl(nla_get_u32(fields[CTA_STATS_GLOBAL_ENTRIES]));
                                 });
    if (!asked) return fail(asked.error());
    return count;
}

// The table keeps a closed TCP connection for minutes.
bool is_live(const nlmsghdr& header) {
    Fields<CTA_MAX + 1> fields{};
    Fields<CTA_PROTOINFO_MAX + 1> protocol{};
    Fields<CTA_PROTOINFO_TCP_MAX + 1> tcp{};
    if (nlmsg_parse(const_cast<nlmsghdr*>(&header), sizeof(nfgenmsg), fields.data(), CTA_MAX, nullptr) < 0)
        return false;
    if (!parse(fields[CTA_PROTOINFO], protocol) || !parse(protocol[CTA_PROTOINFO_TCP], tcp) ||
        tcp[CTA_PROTOINFO_TCP_STATE] == nullptr)
        return true;  // no TCP
    const std::uint8_t state = nla_get_u8(tcp[CTA_PROTOINFO_TCP_STATE]);
    return state != TCP_CONNTRACK_LAST_ACK && state != TCP_CONNTRACK_TIME_WAIT &&
           state != TCP_CONNTRACK_CLOSE;
}

Result<void> forget(NetlinkSocket& netfilter, const Entry& entry) {
    auto message = make_message(IPCTNL_MSG_CT_DELETE, 0);
    if (nla_put(message.get(), CTA_TUPLE_ORIG | NLA_F_NESTED, static_cast<int>(entry.tuple.size()),
                entry.tuple.data()) < 0)
        throw std::bad_alloc{};
    auto forgotten = netfilter.send(std::move(message), "forget a connection");
    const bool ended_by_itself = !forgotten && forgotten.error().code == Errc::not_found;
    if (ended_by_itself) return {};
    return forgotten;
}

}  // namespace

Result<void> forget_all_connections(NetlinkSocket& netfilter) {
    return netfilter.send(make_message(IPCTNL_MSG_CT_DELETE, 0), "forget all connections");
}

Result<void> forget_connections_from(NetlinkSocket& netfilter, Ipv4 source) {
    return forget_denied_connections(netfilter, source, [](const Flow&) { return true; });
}

Result<void> forget_denied_connections(NetlinkSocket& netfilter, Ipv4 source,
                                       const std::function<bool(const Flow&)>& is_denied) {
    const auto entries = list_connections(netfilter, source);
    if (!entries) return fail(entries.error());
    for (const auto& entry : *entries) {
        if (!is_denied(entry.flow)) continue;
        if (auto forgotten = forget(netfilter, entry); !forgotten) return forgotten;
    }
    return {};
}

Result<std::uint32_t> count_connections(NetlinkSocket& netfilter) {
    // Most VMs have none, which costs one small question.
    const auto entries = count_entries(netfilter);
    if (!entries || *entries == 0) return entries;
    std::uint32_t count = 0;
    auto listed = netfilter.query(make_message(IPCTNL_MSG_CT_GET, NLM_F_DUMP), "list connections",
                                  [&](const nlmsghdr& header) { count += is_live(header) ? 1 : 0; });
    if (!listed) return fail(listed.error());
    return count;
}

}  // namespace noid::net
