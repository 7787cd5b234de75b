#pragma once

#include <atomic>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "base/async.hpp"
#include "channel/agent_channel.hpp"
#include "vm/broadcast.hpp"
#include "vm/host.hpp"
#include "vm/snapshot.hpp"

namespace noid::vm {

// A machine that was woken from a template ahead of time and stands still: a process, a directory and a place
// on the network, of nobody yet. Whoever makes a VM of it lets it run and gives it its identity.
//
// Lives on a strand of its own, which the VM takes over with it.
class WarmVm : public std::enable_shared_from_this<WarmVm> {
  public:
    // Wakes one in a new directory below `place`. unavailable when the host's network does not fit the
    // template. Failed or cancelled, it leaves nothing.
    [[nodiscard]] static Awaitable<Result<std::shared_ptr<WarmVm>>> wake(Host& host, Origin origin,
                                                                         std::filesystem::path place);

    [[nodiscard]] const std::string& id() const noexcept { return id_; }
    [[nodiscard]] const Origin& origin() const noexcept { return origin_; }
    [[nodiscard]] MiB memory() const noexcept { return origin_.config.memory; }
    [[nodiscard]] const std::filesystem::path& directory() const noexcept { return directory_; }
    [[nodiscard]] const std::optional<Slot>& slot() const noexcept { return slot_; }
    [[nodiscard]] const asio::any_io_executor& strand() const noexcept { return strand_; }

    // A VM is being made under its id: its place on the network is that VM's from here on, whatever comes of
    // this.
    void give_slot_away() noexcept { has_slot_ = false; }

    // Waits until its process has ended (true), or it was released or ended by us (false). From anywhere.
    Awaitable<bool> ended_by_itself();
    // Removes it: process, place on the network, files. From anywhere, not to be cancelled.
    Awaitable<void> end();

    // What a VM goes on with. On the strand, once; nothing that is called on this object is of use after it.
    struct Machine {
        std::shared_ptr<vmm::Machine> machine;
        std::shared_ptr<channel::AgentChannel> channel;  // holds its traffic back
    };
    [[nodiscard]] Machine release();

    // StepHook.
    Result<void> reached(std::string_view step) const;

  private:
    WarmVm(Host& host, Origin origin, const std::filesystem::path& place);
    Awaitable<Result<void>> wake_now();
    Awaitable<Result<void>> take_place_on_network();
    Awaitable<Result<void>> come_up_and_stand_still();
    Awaitable<Result<void>> try_out(channel::AgentChannel& channel);
    Awaitable<void> end_now();

    Host& host_;
    const Origin origin_;
    const std::string id_;
    const std::filesystem::path directory_;
    const asio::any_io_executor strand_;
    std::optional<Slot> slot_;
    std::atomic<bool> has_slot_{true};  // or may have, and gives it back at its end
    Machine machine_;
    Broadcast released_;
};

}  // namespace noid::vm
