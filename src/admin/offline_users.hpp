#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/thread_pool.hpp>
#include <memory>

#include "admin/users.hpp"
#include "config/server_config.hpp"
#include "netclient/client.hpp"
#include "vmm_choice/choose.hpp"

namespace noid::admin {

// Users of a data directory that no server serves: takes it as a server would, VMs included, because
// removing a user stops their VMs; gives it back when destroyed. conflict when a server has it after
// all. `loop`, `pool` and `config` must outlive it.
class OfflineUsers : public Users {
  public:
    [[nodiscard]] static Awaitable<Result<std::unique_ptr<OfflineUsers>>> open(
        asio::io_context& loop, asio::thread_pool& pool, const config::ServerConfig& config,
        vmm_choice::Starter starter, netclient::Client::Connect network);
    // Lets go of the VMs; they run on. Call before destruction.
    virtual Awaitable<void> close() = 0;
};

}  // namespace noid::admin
