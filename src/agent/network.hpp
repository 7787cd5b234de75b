#pragma once

#include <chrono>

#include "base/error.hpp"
#include "proto/messages.hpp"

namespace noid::agent {

// Brings the interface `lo` up; its addresses come by themselves.
[[nodiscard]] Result<void> bring_up_loopback();

// Gives the guest's first virtio network interface the hardware address, MTU, IPv4 address and
// default route of `network`, takes away other IPv4 addresses and what it believed about its
// neighbours (after a restore another host answers under the gateway's address), switches IPv6 off
// there, as the network has none, and writes /etc/resolv.conf. No program is run. What is as it
// should be is left alone, so that connections survive.
//
// Waits at most `limit` for the interface to appear. Errors: `invalid` names the field,
// `unavailable` for a machine without a network device.
[[nodiscard]] Result<void> configure_network(const proto::GuestNetwork& network,
                                             std::chrono::milliseconds limit);

}  // namespace noid::agent
