#include "net/dns_servers.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <resolv.h>
#include <sys/stat.h>

#include <cstring>

namespace noid::net {

namespace {

namespace ip = boost::asio::ip;

DnsServers::Addresses read_host_resolvers() {
    struct __res_state state {};
    DnsServers::Addresses addresses;
    if (::res_ninit(&state) != 0) return addresses;
    // The C library puts IPv6 servers into a second list and leaves a gap in the first.
    for (int i = 0; i < state.nscount; ++i) {
        const sockaddr_in6* six = state._u._ext.nsaddrs[i];
        if (six != nullptr && six->sin6_family == AF_INET6) {
            ip::address_v6::bytes_type bytes{};
            std::memcpy(bytes.data(), &six->sin6_addr, bytes.size());
            addresses.emplace_back(ip::address_v6{bytes, six->sin6_scope_id});
        } else if (state.nsaddr_list[i].sin_family == AF_INET) {
            addresses.emplace_back(ip::address_v4{ntohl(state.nsaddr_list[i].sin_addr.s_addr)});
        }
    }
    ::res_nclose(&state);
    return addresses;
}

}  // namespace

DnsServers::DnsServers(const std::vector<Ipv4>& configured)
    : is_fixed_{!configured.empty()}, addresses_{configured.begin(), configured.end()} {}

const DnsServers::Addresses& DnsServers::get() {
    struct stat status {};
    if (is_fixed_ || ::stat(_PATH_RESCONF, &status) != 0) return addresses_;
    const Stamp stamp{status.st_ino, {status.st_mtim.tv_sec, status.st_mtim.tv_nsec}};
    if (stamp != stamp_) {
        addresses_ = read_host_resolvers();
        stamp_ = stamp;
    }
    return addresses_;
}

}  // namespace noid::net
