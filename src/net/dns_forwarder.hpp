#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/async.hpp"
#include "base/error.hpp"
#include "net/dns_servers.hpp"
#include "net/name_ledger.hpp"
#include "net/slot_pool.hpp"

namespace noid::net {

// Answers guests' DNS queries, each guest's at the gateway of its own slot, by asking the host's
// resolvers. Names that a guest's policy denies are refused; before an answer reaches the guest, the
// addresses in it have been learned. Bounds what one guest can keep busy. Runs on one executor.
class DnsForwarder {
  public:
    // Awaited before an answer is given on.
    using Learn = std::function<Awaitable<Result<void>>(
        std::uint32_t index, std::uint64_t lease, std::string name, std::vector<ResolvedAddress> addresses)>;

    DnsForwarder(asio::any_io_executor executor, DnsServers servers, Learn learn);
    DnsForwarder(const DnsForwarder&) = delete;
    DnsForwarder& operator=(const DnsForwarder&) = delete;
    // Queries under way end with their slots' sockets; nothing of them touches this object.
    ~DnsForwarder();

    void handle(SlotEvent event);

  private:
    struct Shared;
    struct Listener;

    asio::any_io_executor executor_;
    std::shared_ptr<Shared> shared_;
    std::map<std::uint32_t, std::shared_ptr<Listener>> listeners_;

    static Awaitable<void> serve_datagrams(std::shared_ptr<Shared> shared,
                                           std::shared_ptr<Listener> listener);
    static Awaitable<void> serve_connections(std::shared_ptr<Shared> shared,
                                             std::shared_ptr<Listener> listener);
};

}  // namespace noid::net
