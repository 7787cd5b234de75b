#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "net/netd_config.hpp"

namespace noid::net {

// noid-netd: everything wired together. The loop's one thread serves the socket, DNS and the watch over
// the uplink; a second thread does all that changes the kernel, one job after another.
class Daemon {
  public:
    // Takes over what an earlier daemon left, and listens. conflict: another one runs. Blocks.
    [[nodiscard]] static Result<std::unique_ptr<Daemon>> start(boost::asio::io_context& loop,
                                                               NetdConfig config);
    ~Daemon();

    // Serves until SIGTERM or SIGINT. Slots, rules and leases stay as they are.
    void run();

  private:
    class Impl;
    explicit Daemon(std::unique_ptr<Impl> impl);

    std::unique_ptr<Impl> impl_;
};

// Takes back everything that the daemon has ever put into the kernel and into /run, running VMs'
// networks too. conflict while a daemon runs. Gives the names of the slots that it removed. Blocks.
[[nodiscard]] Result<std::vector<std::string>> clean_up(const NetdConfig& config);

}  // namespace noid::net
