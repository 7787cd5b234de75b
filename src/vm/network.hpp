#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/async.hpp"
#include "base/error.hpp"
#include "proto/messages.hpp"
#include "vm/network_settings.hpp"
#include "vmm/vmm.hpp"

namespace noid::vm {

// A VM's place on the host's network, lent by a Network.
struct Slot {
    std::uint32_t index = 0;
    vmm::NetworkAttachment attachment;  // what the VMM is given
    proto::GuestNetwork guest;          // what the guest is told
    std::string address;                // the outer address, for people
};

// Hears what happens at the addresses of VMs that sleep.
class Doorbell {
  public:
    Doorbell() = default;
    Doorbell(const Doorbell&) = delete;
    Doorbell& operator=(const Doorbell&) = delete;
    virtual ~Doorbell() = default;

    // The VMs that are suspended and have a slot.
    [[nodiscard]] virtual std::vector<std::string> asleep() const = 0;
    // Somebody sends to this VM.
    virtual void knocked(std::string vm_id) = 0;
    // The network service does not know (any more) of a slot for this VM, which asleep() named.
    virtual void lost(std::string vm_id) = 0;
};

// The seam to the network service: lends slots. Thread-safe.
class Network {
  public:
    Network() = default;
    Network(const Network&) = delete;
    Network& operator=(const Network&) = delete;
    virtual ~Network() = default;

    // A slot for one VM, with these settings in force; the same VM asked for twice gets the same slot.
    // nullopt: there is no network on this host now; the VM runs without, and unavailable_reason() says
    // why.
    virtual Awaitable<Result<std::optional<Slot>>> acquire(std::string vm_id, NetworkSettings settings) = 0;
    // The VM is suspended and keeps its slot: whoever sends to it knocks (watch()), and what is sent is held
    // for some seconds. Not an error while the service does not answer.
    virtual Awaitable<Result<void>> sleep(std::string vm_id) = 0;
    // It runs again, and gets what was held.
    virtual Awaitable<Result<void>> awake(std::string vm_id) = 0;
    // Rings this bell, on the caller's executor, until it is cancelled. Finds a service again that was
    // restarted.
    virtual Awaitable<void> watch(Doorbell& bell) = 0;
    // Gives back the slot of that VM; not an error when it has none.
    virtual Awaitable<Result<void>> release(std::string vm_id) = 0;
    // Other settings for a VM that has a slot, in force when this returns. not_found when it has none,
    // unavailable when the service does not answer.
    virtual Awaitable<Result<void>> policy(std::string vm_id, NetworkSettings settings) = 0;
    // Errors as policy().
    virtual Awaitable<Result<NetworkNumbers>> numbers(std::string vm_id) = 0;
    // Of all VMs of this server that have a slot, by VM id.
    virtual Awaitable<Result<std::map<std::string, NetworkNumbers>>> all_numbers() = 0;
    // Once, before the first acquire(): which server this is, and which of its VMs have slots. Slots
    // that an earlier process of this server held for other VMs are given back, now or, when the service
    // does not answer, before the first acquire() that it does answer.
    virtual Awaitable<void> retain(std::string server_id, std::vector<std::string> vm_ids) = 0;
    [[nodiscard]] virtual std::string unavailable_reason() const = 0;
};

// A host without a network service: every VM runs without a network.
class NoNetwork final : public Network {
  public:
    explicit NoNetwork(std::string reason) : reason_{std::move(reason)} {}
    Awaitable<Result<std::optional<Slot>>> acquire(std::string, NetworkSettings) override {
        co_return std::nullopt;
    }
    Awaitable<Result<void>> sleep(std::string) override { co_return Result<void>{}; }
    Awaitable<Result<void>> awake(std::string) override { co_return Result<void>{}; }
    Awaitable<void> watch(Doorbell&) override { co_return; }
    Awaitable<Result<void>> release(std::string) override { co_return Result<void>{}; }
    Awaitable<Result<void>> policy(std::string, NetworkSettings) override {
        co_return fail(Errc::unavailable, reason_);
    }
    Awaitable<Result<NetworkNumbers>> numbers(std::string) override {
        co_return fail(Errc::unavailable, reason_);
    }
    Awaitable<Result<std::map<std::string, NetworkNumbers>>> all_numbers() override {
        co_return fail(Errc::unavailable, reason_);
    }
    Awaitable<void> retain(std::string, std::vector<std::string>) override { co_return; }
    [[nodiscard]] std::string unavailable_reason() const override { return reason_; }

  private:
    std::string reason_;
};

}  // namespace noid::vm
