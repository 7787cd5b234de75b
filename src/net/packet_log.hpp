#pragma once

#include <cstdint>

#include "base/error.hpp"
#include "base/fd.hpp"

// Hears of the packets that rules with `log group N` match (NFLOG), without a byte of them.
namespace noid::net {

// A socket in the calling thread's network namespace, not blocking and deaf as yet.
[[nodiscard]] Result<Fd> open_packet_log();
// From now on it is readable when a rule has logged to this group. conflict: another listens to the group.
[[nodiscard]] Result<void> listen_to_packet_log(const Fd& socket, std::uint16_t group);
// Takes what waits.
void drain_packet_log(int socket);

}  // namespace noid::net
