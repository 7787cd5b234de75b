#include "net/nftables.hpp"

#include <arpa/inet.h>
#include <endian.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <nftables/libnftables.h>

#include <array>
#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <cerrno>
#include <memory>
#include <new>

namespace noid::net {

namespace {

struct FreeContext {
    void operator()(nft_ctx* context) const noexcept { nft_ctx_free(context); }
};
using Context = std::unique_ptr<nft_ctx, FreeContext>;

// Closing a context waits until the kernel has freed what its transaction deleted: tens of
// milliseconds of RCU grace periods that nobody has to wait for.
void close_later(Context context) {
    static boost::asio::thread_pool closer{1};
    boost::asio::post(closer, [context = std::move(context)] {});
}

// nft prints a caret under the offending place; the first line says it all.
std::string first_line(const char* text) {
    const std::string_view all = text == nullptr ? "" : text;
    return std::string{all.substr(0, all.find('\n'))};
}

NetlinkMessage make_message(int operation, int flags, int family) {
    constexpr int subsystem = NFNL_SUBSYS_NFTABLES << 8;
    NetlinkMessage message{nlmsg_alloc_simple(subsystem | operation, flags)};
    if (!message) throw std::bad_alloc{};
    nfgenmsg header{};
    header.nfgen_family = static_cast<std::uint8_t>(family);
    header.version = NFNETLINK_V0;
    if (nlmsg_append(message.get(), &header, sizeof header, NLMSG_ALIGNTO) < 0) throw std::bad_alloc{};
    return message;
}

void put_text(nl_msg& message, int attribute, const std::string& text) {
    if (nla_put_string(&message, attribute, text.c_str()) < 0) throw std::bad_alloc{};
}

template <std::size_t N>
bool parse(const nlmsghdr& header, std::array<nlattr*, N>& out) {
    return nlmsg_parse(const_cast<nlmsghdr*>(&header), sizeof(nfgenmsg), out.data(), static_cast<int>(N) - 1,
                       nullptr) >= 0;
}
template <std::size_t N>
bool parse(nlattr* nest, std::array<nlattr*, N>& out) {
    return nest != nullptr && nla_parse_nested(out.data(), static_cast<int>(N) - 1, nest, nullptr) >= 0;
}

std::string text_of(nlattr* attribute) {
    return attribute == nullptr ? std::string{} : std::string{nla_get_string(attribute)};
}
std::uint64_t big_endian_64(nlattr* attribute) {
    if (attribute == nullptr || nla_len(attribute) != static_cast<int>(sizeof(std::uint64_t))) return 0;
    return be64toh(nla_get_u64(attribute));
}

enum class WithTimeout : std::uint8_t { no, yes };

NetlinkMessage set_elements(int operation, int flags, const std::string& table, const std::string& set,
                            const std::vector<LearnedAddress>& addresses, WithTimeout with_timeout) {
    auto message = make_message(operation, flags, NFPROTO_IPV4);
    put_text(*message, NFTA_SET_ELEM_LIST_TABLE, table);
    put_text(*message, NFTA_SET_ELEM_LIST_SET, set);
    nlattr* const list = nla_nest_start(message.get(), NFTA_SET_ELEM_LIST_ELEMENTS);
    for (const auto& each : addresses) {
        nlattr* const element = nla_nest_start(message.get(), NFTA_LIST_ELEM);
        nlattr* const key = nla_nest_start(message.get(), NFTA_SET_ELEM_KEY);
        const std::uint32_t value = htonl(each.address.to_uint());
        nla_put(message.get(), NFTA_DATA_VALUE, sizeof value, &value);
        nla_nest_end(message.get(), key);
        if (with_timeout == WithTimeout::yes) {
            const auto milliseconds = std::chrono::milliseconds{each.remaining}.count();
            nla_put_u64(message.get(), NFTA_SET_ELEM_TIMEOUT,
                        htobe64(static_cast<std::uint64_t>(milliseconds)));
        }
        nla_nest_end(message.get(), element);
    }
    nla_nest_end(message.get(), list);
    return message;
}

std::optional<LearnedAddress> parse_element(nlattr* element) {
    std::array<nlattr*, NFTA_SET_ELEM_MAX + 1> fields{};
    std::array<nlattr*, NFTA_DATA_MAX + 1> data{};
    if (!parse(element, fields) || !parse(fields[NFTA_SET_ELEM_KEY], data)) return std::nullopt;
    nlattr* const value = data[NFTA_DATA_VALUE];
    if (value == nullptr || nla_len(value) != static_cast<int>(sizeof(std::uint32_t))) return std::nullopt;
    const std::chrono::milliseconds left{big_endian_64(fields[NFTA_SET_ELEM_EXPIRATION])};
    return LearnedAddress{Ipv4{ntohl(nla_get_u32(value))}, std::chrono::ceil<std::chrono::seconds>(left)};
}

Result<std::vector<std::string>> list_chains(NetlinkSocket& netfilter, int family, const std::string& table) {
    std::vector<std::string> chains;
    auto listed = netfilter.query(make_message(NFT_MSG_GETCHAIN, NLM_F_DUMP, family), "list chains",
                                  [&](const nlmsghdr& header) {
                                      std::array<nlattr*, NFTA_CHAIN_MAX + 1> fields{};
                                      if (parse(header, fields) && text_of(fields[NFTA_CHAIN_TABLE]) == table)
                                          chains.push_back(text_of(fields[NFTA_CHAIN_NAME]));
                                  });
    if (!listed) return fail(listed.error());
    return chains;
}

}  // namespace

Result<void> run_nft(const std::string& commands) {
    if (auto output = ask_nft(commands); !output) return fail(std::move(output.error()));
    return {};
}

Result<std::string> ask_nft(const std::string& commands) {
    Context context{nft_ctx_new(NFT_CTX_DEFAULT)};
    if (!context) return fail(Errc::internal, "cannot start libnftables");
    nft_ctx_buffer_output(context.get());
    nft_ctx_buffer_error(context.get());
    Result<std::string> result;
    if (nft_run_cmd_from_buffer(context.get(), commands.c_str()) == 0) {
        const char* const output = nft_ctx_get_output_buffer(context.get());
        result = output == nullptr ? "" : output;
    } else {
        result = fail(Errc::internal, "nftables: " + first_line(nft_ctx_get_error_buffer(context.get())));
    }
    close_later(std::move(context));
    return result;
}

Result<std::map<std::string, CounterValue>> read_counters(NetlinkSocket& netfilter, int family,
                                                          const std::string& table) {
    auto message = make_message(NFT_MSG_GETOBJ, NLM_F_DUMP, family);
    put_text(*message, NFTA_OBJ_TABLE, table);
    std::map<std::string, CounterValue> counters;
    auto read = netfilter.query(std::move(message), "read counters", [&](const nlmsghdr& header) {
        std::array<nlattr*, NFTA_OBJ_MAX + 1> fields{};
        std::array<nlattr*, NFTA_COUNTER_MAX + 1> values{};
        if (!parse(header, fields) || !parse(fields[NFTA_OBJ_DATA], values)) return;
        counters[text_of(fields[NFTA_OBJ_NAME])] = {big_endian_64(values[NFTA_COUNTER_BYTES]),
                                                    big_endian_64(values[NFTA_COUNTER_PACKETS])};
    });
    if (!read) return fail(read.error());
    return counters;
}

Result<void> add_to_set(NetlinkSocket& netfilter, const std::string& table, const std::string& set,
                        const std::vector<LearnedAddress>& addresses) {
    // Kernels before 6.12 keep the old timeout of an element that is added again. So that it starts
    // anew, and no packet ever misses the element, it is added (if it was missing), deleted and added
    // in one transaction.
    const auto doing = "add addresses to set " + set;
    std::vector<NetlinkRequest> requests;
    requests.push_back(
        {set_elements(NFT_MSG_NEWSETELEM, NLM_F_CREATE, table, set, addresses, WithTimeout::no), doing});
    requests.push_back({set_elements(NFT_MSG_DELSETELEM, 0, table, set, addresses, WithTimeout::no), doing});
    requests.push_back(
        {set_elements(NFT_MSG_NEWSETELEM, NLM_F_CREATE, table, set, addresses, WithTimeout::yes), doing});
    return netfilter.commit(std::move(requests));
}

Result<std::vector<LearnedAddress>> list_set(NetlinkSocket& netfilter, const std::string& table,
                                             const std::string& set) {
    auto message = make_message(NFT_MSG_GETSETELEM, NLM_F_DUMP, NFPROTO_IPV4);
    put_text(*message, NFTA_SET_ELEM_LIST_TABLE, table);
    put_text(*message, NFTA_SET_ELEM_LIST_SET, set);
    std::vector<LearnedAddress> addresses;
    auto listed = netfilter.query(std::move(message), "list set " + set, [&](const nlmsghdr& header) {
        std::array<nlattr*, NFTA_SET_ELEM_LIST_MAX + 1> fields{};
        if (!parse(header, fields) || fields[NFTA_SET_ELEM_LIST_ELEMENTS] == nullptr) return;
        int left = 0;
        nlattr* element = nullptr;
        nla_for_each_nested(element, fields[NFTA_SET_ELEM_LIST_ELEMENTS], left) {
            if (const auto address = parse_element(element)) addresses.push_back(*address);
        }
    });
    if (!listed) return fail(listed.error());
    return addresses;
}

Result<std::uint32_t> ruleset_generation(NetlinkSocket& netfilter) {
    std::uint32_t generation = 0;
    auto asked = netfilter.query(make_message(NFT_MSG_GETGEN, 0, NFPROTO_UNSPEC),
                                 "ask for the rules' generation", [&](const nlmsghdr& header) {
                                     std::array<nlattr*, NFTA_GEN_MAX + 1> fields{};
                                     if (parse(header, fields) && fields[NFTA_GEN_ID] != nullptr)
                                         generation = ntohl(nla_get_u32(fields[NFTA_GEN_ID]));
                                 });
    if (!asked) return fail(asked.error());
    return generation;
}

Result<bool> has_table(NetlinkSocket& netfilter, int family, const std::string& table) {
    auto message = make_message(NFT_MSG_GETTABLE, 0, family);
    put_text(*message, NFTA_TABLE_NAME, table);
    auto asked = netfilter.query(std::move(message), "find table " + table, [](const nlmsghdr&) {});
    if (asked) return true;
    if (asked.error().code == Errc::not_found) return false;
    return fail(asked.error());
}

Result<bool> remove_unused_table(NetlinkSocket& netfilter, int family, const std::string& table) {
    const auto chains = list_chains(netfilter, family, table);
    if (!chains) return fail(chains.error());
    std::vector<NetlinkRequest> requests;
    for (const auto& chain : *chains) {
        auto message = make_message(NFT_MSG_DELCHAIN, NLM_F_NONREC, family);
        put_text(*message, NFTA_CHAIN_TABLE, table);
        put_text(*message, NFTA_CHAIN_NAME, chain);
        requests.push_back({std::move(message), "remove chain " + chain});
    }
    auto message = make_message(NFT_MSG_DELTABLE, NLM_F_NONREC, family);
    put_text(*message, NFTA_TABLE_NAME, table);
    requests.push_back({std::move(message), "remove table " + table});
    auto removed = netfilter.commit(std::move(requests));
    if (removed || removed.error().code == Errc::not_found) return true;
    if (removed.error().cause == std::errc::device_or_resource_busy) return false;
    return fail(removed.error());
}

}  // namespace noid::net
