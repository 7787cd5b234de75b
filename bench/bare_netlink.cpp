// The floor for a network slot: the kernel objects of one, made by the very messages that noid-netd sends,
// out of nothing but system calls. What libnftables makes of the rules is recorded once, before anything
// is measured, and sent again as it was.
//
//   noid-bench-netlink --directory DIR --slots N
//
// Says "ready"; then makes a slot for each line that it reads, and says "made".
// All go at the end: the kernel takes namespaces apart in the background, which holds up whoever makes one.
#include <fmt/format.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <netlink/msg.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include "base/fd.hpp"
#include "net/links.hpp"
#include "net/netns.hpp"
#include "net/nftables.hpp"
#include "net/ruleset.hpp"
#include "net/slot_address.hpp"
#include "net/tap.hpp"

namespace {

std::string* recording = nullptr;  // where nftables' batches go while they are recorded

}  // namespace

// Stands before the C library's for libnftables too.
extern "C" ssize_t sendmsg(int socket, const msghdr* message, int flags) {
    if (recording != nullptr) {
        for (std::size_t i = 0; i < message->msg_iovlen; ++i) {
            const iovec& part = message->msg_iov[i];
            recording->append(static_cast<const char*>(part.iov_base), part.iov_len);
        }
    }
    return ::syscall(SYS_sendmsg, socket, message, flags);
}

namespace {

using namespace noid;

constexpr int uplink_number = 100;
constexpr int tap_number = 101;
constexpr std::uint32_t mtu = 1500;
constexpr unsigned outer_prefix = 30;
constexpr std::uint32_t first_index = 16000;  // far from those of a daemon that works beside this
constexpr std::uint32_t most_slots = 16384 - first_index;

template <class T>
T must(Result<T> result) {
    if (!result) throw std::runtime_error{result.error().full()};
    if constexpr (!std::is_void_v<T>) return std::move(*result);
}

[[noreturn]] void fail_with(int error, const char* doing) {
    throw std::system_error{error, std::generic_category(), doing};
}

Fd open_netlink(int family) {
    Fd socket{::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, family)};
    if (!socket) fail_with(errno, "open a netlink socket");
    return socket;
}

// The error in an answer; 0 for an acknowledgement.
int error_in(const nlmsghdr& header) {
    if (header.nlmsg_type != NLMSG_ERROR) return 0;
    return -static_cast<const nlmsgerr*>(NLMSG_DATA(&header))->error;
}

// All requests in one call, then an acknowledgement of each.
void transmit(const Fd& socket, const std::vector<net::NetlinkRequest>& requests) {
    std::string bytes;
    for (const auto& request : requests) {
        nlmsghdr header = *nlmsg_hdr(request.message.get());
        header.nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
        const std::size_t begin = bytes.size();
        bytes.append(reinterpret_cast<const char*>(nlmsg_hdr(request.message.get())), header.nlmsg_len);
        std::memcpy(bytes.data() + begin, &header, sizeof header);
        bytes.resize(begin + NLMSG_ALIGN(header.nlmsg_len));
    }
    if (::send(socket.get(), bytes.data(), bytes.size(), 0) < 0) fail_with(errno, "send");
    alignas(nlmsghdr) std::array<char, 65536> answer;
    for (std::size_t acknowledged = 0; acknowledged < requests.size();) {
        const ssize_t got = ::recv(socket.get(), answer.data(), answer.size(), 0);
        if (got < 0) fail_with(errno, "receive");
        auto left = static_cast<unsigned>(got);
        for (auto* header = reinterpret_cast<nlmsghdr*>(answer.data()); NLMSG_OK(header, left);
             header = NLMSG_NEXT(header, left)) {
            if (const int error = error_in(*header); error != 0)
                fail_with(error, requests[acknowledged].doing.c_str());
            ++acknowledged;
        }
    }
}

// An nf_tables batch takes effect before this returns; only errors are answered.
void replay(const Fd& socket, const std::string& batch) {
    if (::send(socket.get(), batch.data(), batch.size(), 0) < 0) fail_with(errno, "send a batch");
    alignas(nlmsghdr) std::array<char, 65536> answer;
    const ssize_t got = ::recv(socket.get(), answer.data(), answer.size(), MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return;
    if (got < 0) fail_with(errno, "receive");
    fail_with(error_in(*reinterpret_cast<const nlmsghdr*>(answer.data())), "apply a recorded batch");
}

class BareSlot {
  public:
    BareSlot(const std::filesystem::path& directory, std::uint32_t number)
        : addresses_{must(net::AddressPool::create(*net::parse_ipv4_network("172.16.0.0/16")))
                         .at(first_index + number)},
          place_{directory / fmt::format("slot{}", number)},
          recorded_in_{directory / fmt::format("recorded{}", number)} {
        addresses_.name = fmt::format("bench{}", number);
        record_rules();
    }

    // The socket of the rules: to close it waits until the kernel has put away what the batch replaced, which
    // is not part of a slot. noid-netd leaves that to a thread of its own.
    [[nodiscard]] Fd make() const {
        Fd rules_socket;
        {
            const auto inside = must(net::InNamespace::create(place_));
            for (const char* which : {"all", "default"}) switch_ipv6_off(which);
            must(net::write_sysctl("ipv4/ip_forward", "1"));
            must(net::make_tap(net::inner::tap, std::nullopt, tap_number));
            transmit(open_netlink(NETLINK_ROUTE), inner_requests(inside.home()));
            rules_socket = open_netlink(NETLINK_NETFILTER);
            replay(rules_socket, rules_);
        }
        const int device = static_cast<int>(::if_nametoindex(addresses_.name.c_str()));
        switch_ipv6_off(addresses_.name);
        transmit(open_netlink(NETLINK_ROUTE), outer_requests(device));
        return rules_socket;
    }

    // Whether made or not.
    void remove() const {
        if (const unsigned device = ::if_nametoindex(addresses_.name.c_str()); device != 0) {
            std::vector<net::NetlinkRequest> requests;
            requests.push_back(net::delete_device_request(static_cast<int>(device)));
            transmit(open_netlink(NETLINK_ROUTE), requests);
        }
        if (std::filesystem::exists(place_)) must(net::remove_namespace(place_));
        must(net::remove_namespace(recorded_in_));
    }

  private:
    // As the kernel gets them from libnftables in a namespace like those to come.
    void record_rules() {
        const auto nothing_learned = [](const net::NamePattern&) {
            return std::vector<net::LearnedAddress>{};
        };
        const auto blocked = net::blocked_networks(*net::parse_ipv4_network("172.16.0.0/16"), {});
        const std::string rules =
            net::slot_ruleset({addresses_, net::inner::guest_mac, blocked, 8192}, net::Before::nothing) +
            net::policy_ruleset(net::Policy{}, nothing_learned, net::Before::nothing);
        const auto inside = must(net::InNamespace::create(recorded_in_));
        must(net::make_tap(net::inner::tap, std::nullopt, tap_number));
        recording = &rules_;
        const auto applied = net::run_nft(rules);
        recording = nullptr;
        must(applied);
        if (rules_.empty()) throw std::runtime_error{"libnftables sent nothing that was seen"};
    }

    static void switch_ipv6_off(const std::string& device) {
        auto written = net::write_sysctl(fmt::format("ipv6/conf/{}/disable_ipv6", device), "1");
        if (!written && written.error().code != Errc::not_found) must(std::move(written));
    }

    std::vector<net::NetlinkRequest> inner_requests(const Fd& home) const {
        using namespace net;
        const auto gateway = boost::asio::ip::make_address_v4(inner::gateway);
        const auto guest = boost::asio::ip::make_address_v4(inner::guest);
        std::vector<NetlinkRequest> requests;
        requests.push_back(add_veth_request(inner::uplink, uplink_number, addresses_.name, home, mtu));
        requests.push_back(set_mac_and_mtu_request(tap_number, inner::gateway_mac, mtu));
        requests.push_back(add_address_request(tap_number, gateway, inner::prefix_length));
        requests.push_back(add_address_request(uplink_number, addresses_.guest, outer_prefix));
        requests.push_back(set_up_request(tap_number));
        requests.push_back(set_up_request(uplink_number));
        requests.push_back(add_default_route_request(addresses_.host, uplink_number));
        requests.push_back(set_neighbour_request(tap_number, guest, inner::guest_mac));
        return requests;
    }

    std::vector<net::NetlinkRequest> outer_requests(int device) const {
        std::vector<net::NetlinkRequest> requests;
        requests.push_back(net::add_address_request(device, addresses_.host, outer_prefix));
        requests.push_back(net::set_up_request(device));
        requests.push_back(net::set_alias_request(device, "bench"));
        return requests;
    }

    net::SlotAddresses addresses_;
    std::filesystem::path place_;
    std::filesystem::path recorded_in_;
    std::string rules_;
};

}  // namespace

int main(int argc, char** argv) try {
    CLI::App app{
        "Makes network slots' kernel objects by system calls alone, one for each line of its input."};
    std::filesystem::path directory;
    std::uint32_t count = 1;
    app.add_option("--directory", directory, "for the namespaces' files")->required();
    app.add_option("--slots", count, "how many at most")->check(CLI::Range(1U, most_slots));
    CLI11_PARSE(app, argc, argv);
    std::vector<BareSlot> slots;
    for (std::uint32_t number = 0; number < count; ++number) slots.emplace_back(directory, number);
    fmt::print("ready\n");
    std::fflush(stdout);
    auto next = slots.begin();
    for (std::string line; next != slots.end() && std::getline(std::cin, line); ++next) {
        const Fd rules_socket = next->make();
        fmt::print("made\n");
        std::fflush(stdout);
    }
    for (const BareSlot& slot : slots) slot.remove();
    return 0;
} catch (const std::exception& error) {
    fmt::print(stderr, "noid-bench-netlink: {}\n", error.what());
    return 1;
}
