#pragma once

#include <boost/asio/thread_pool.hpp>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "config/server_config.hpp"
#include "netclient/client.hpp"
#include "privileged/separation.hpp"
#include "vmm_choice/choose.hpp"

namespace noid::server {

// A process that is about to open the data directory and to look after VMs: the server, and commands that do
// its work while it does not run.
class ServerProcess {
  public:
    // As root makes of this process two (docs/adr/0006), takes the data directory over, and goes on as the
    // server's user; `as_root` is done before root is given up, after the other process is on its way. Where
    // VMMs are not to be confined ([vmm] jail), and as another user, it stays one. Before there are threads.
    // `own_descriptors` stay with this process alone.
    [[nodiscard]] static Result<ServerProcess> begin(const config::ServerConfig& config,
                                                     const std::function<Result<void>()>& as_root = {},
                                                     std::vector<int> own_descriptors = {});

    [[nodiscard]] const vmm_choice::Starter& starter() const noexcept { return starter_; }
    // How noid-netd is reached, when not by this process itself. `pool` does what blocks, and outlives it.
    [[nodiscard]] netclient::Client::Connect network(asio::thread_pool& pool) const;
    // Becomes readable when this process has lost its privileged part; none: it has none.
    [[nodiscard]] const Fd* loss() const noexcept { return separation_ ? &separation_->ended() : nullptr; }
    // For the log: whom it runs as.
    [[nodiscard]] const std::string& user() const noexcept { return user_; }

  private:
    ServerProcess(vmm_choice::Starter starter, std::string user)
        : starter_{std::move(starter)}, user_{std::move(user)} {}

    vmm_choice::Starter starter_;
    std::string user_;
    std::optional<privileged::Separation> separation_;
};

// Sessions and VMs need descriptors: the hard limit is what the operator allowed.
void raise_descriptor_limit();

// For commands that only touch files of the data directory: as root, goes on as the server's user, for good.
[[nodiscard]] Result<void> act_as_server_user(const config::ServerConfig& config);
// For commands that need root to the end: gives the server's user what they have made.
[[nodiscard]] Result<void> give_to_server_user(const config::ServerConfig& config);

}  // namespace noid::server
