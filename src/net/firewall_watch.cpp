#include "net/firewall_watch.hpp"

#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>

#include "net/netlink_events.hpp"

namespace noid::net {

namespace {

bool is_removal(const nlmsghdr& header) {
    if (NFNL_SUBSYS_ID(header.nlmsg_type) != NFNL_SUBSYS_NFTABLES) return false;
    switch (NFNL_MSG_TYPE(header.nlmsg_type)) {
        case NFT_MSG_DELTABLE:
        case NFT_MSG_DELCHAIN:
        case NFT_MSG_DELRULE:
        case NFT_MSG_DELSET:
        case NFT_MSG_DELSETELEM:
            return true;
        default:
            return false;
    }
}

}  // namespace

Result<FirewallWatch> FirewallWatch::open(asio::any_io_executor executor) {
    auto socket = open_netlink_events(NETLINK_NETFILTER, 1U << (NFNLGRP_NFTABLES - 1), "the firewall");
    if (!socket) return fail(std::move(socket.error()));
    return FirewallWatch{asio::posix::stream_descriptor{std::move(executor), socket->release()}};
}

Awaitable<Result<void>> FirewallWatch::removed() {
    while (!drain_netlink_events(socket_.native_handle(), is_removal)) {
        boost::system::error_code error;
        co_await socket_.async_wait(asio::posix::stream_descriptor::wait_read,
                                    asio::redirect_error(asio::use_awaitable, error));
        if (error) co_return fail(Errc::cancelled, "no longer watching the firewall");
    }
    co_return Result<void>{};
}

}  // namespace noid::net
