#pragma once

#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>

#include "netclient/client.hpp"
#include "vm/network.hpp"

namespace noid::netclient {

// Lends the slots of noid-netd. While no daemon answers, VMs are made without a network: that is
// logged once, and once more when a daemon is there again. What could not be given back in the
// meantime is given back then.
class DaemonNetwork final : public vm::Network {
  public:
    explicit DaemonNetwork(std::filesystem::path socket, Client::Connect connect = {});

    Awaitable<Result<std::optional<vm::Slot>>> acquire(std::string vm_id,
                                                       vm::NetworkSettings settings) override;
    Awaitable<Result<void>> release(std::string vm_id) override;
    Awaitable<Result<void>> policy(std::string vm_id, vm::NetworkSettings settings) override;
    Awaitable<Result<vm::NetworkNumbers>> numbers(std::string vm_id) override;
    Awaitable<Result<std::map<std::string, vm::NetworkNumbers>>> all_numbers() override;
    Awaitable<Result<void>> sleep(std::string vm_id) override;
    Awaitable<Result<void>> awake(std::string vm_id) override;
    Awaitable<void> watch(vm::Doorbell& bell) override;
    Awaitable<void> retain(std::string server_id, std::vector<std::string> vm_ids) override;
    [[nodiscard]] std::string unavailable_reason() const override;

  private:
    // Notes how a request went. True: there is no network on this host now.
    bool is_out_of_service(const std::optional<Error>& error);
    Awaitable<void> give_back_owed();
    Awaitable<void> give_back_leaked();
    Awaitable<Result<void>> watch_once(vm::Doorbell& bell);
    [[nodiscard]] net::Holder holder() const;

    Client client_;
    const std::string run_;  // this process
    mutable std::mutex mutex_;
    std::optional<std::string> unavailable_;  // why, since the last request
    std::set<std::string> owed_;              // VMs that are gone and whose slots netd still holds
    std::string server_id_;
    std::optional<std::vector<std::string>> retained_;  // to be said to netd yet
};

}  // namespace noid::netclient
