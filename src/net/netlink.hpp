#pragma once

#include <linux/netlink.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/error.hpp"

struct nl_sock;
struct nl_msg;

namespace noid::net {

struct FreeMessage {
    void operator()(nl_msg* message) const noexcept;
};
using NetlinkMessage = std::unique_ptr<nl_msg, FreeMessage>;

// One message to the kernel, and what it is to do, for the error ("add address 10.200.0.1/30").
struct NetlinkRequest {
    NetlinkMessage message;
    std::string doing;
};

// A netlink socket: speaks for ever to the network namespace in which its thread was when it was
// opened. Used by one thread at a time. Calls block for as long as the kernel works, which is
// milliseconds; answers that do not come within 10 s are timed_out.
class NetlinkSocket {
  public:
    // `family`: NETLINK_ROUTE, NETLINK_NETFILTER.
    [[nodiscard]] static Result<NetlinkSocket> open(int family);

    // Sends all requests at once; the kernel works them off in their order. The first failure is the
    // answer; what comes after it is done nevertheless.
    [[nodiscard]] Result<void> send_all(std::vector<NetlinkRequest> requests);
    [[nodiscard]] Result<void> send(NetlinkMessage message, std::string doing);
    // nf_tables: all requests or none take effect.
    [[nodiscard]] Result<void> commit(std::vector<NetlinkRequest> requests);

    // Every message of the answer to a request with NLM_F_DUMP, or the only one to one without.
    using Each = std::function<void(const nlmsghdr&)>;
    [[nodiscard]] Result<void> query(NetlinkMessage message, std::string doing, const Each& each);

  private:
    struct Close {
        void operator()(nl_sock* socket) const noexcept;
    };
    explicit NetlinkSocket(std::unique_ptr<nl_sock, Close> socket) noexcept : socket_{std::move(socket)} {}

    struct Expected {
        std::uint32_t sequence;
        std::string doing;
    };
    std::uint32_t append(std::string& out, nl_msg& message, int flags);
    Result<void> transmit(const std::string& bytes);
    Result<void> await_acknowledgements(std::vector<Expected> expected);
    Result<std::size_t> receive();

    std::unique_ptr<nl_sock, Close> socket_;
    std::vector<char> buffer_;
};

}  // namespace noid::net
