#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/async.hpp"
#include "base/error.hpp"
#include "channel/session.hpp"
#include "proto/messages.hpp"
#include "vm/checkpoint.hpp"
#include "vm/console.hpp"
#include "vm/types.hpp"

namespace noid::vm {

enum class StopMode : std::uint8_t { graceful, force };

// One VM: an actor. Members that return an Awaitable may be awaited from any executor: they hop to
// the VM's strand and back. State changes are serialised; one that does not fit the present state
// answers `conflict` and says which state it is in.
class Vm {
  public:
    Vm() = default;
    Vm(const Vm&) = delete;
    Vm& operator=(const Vm&) = delete;
    virtual ~Vm() = default;

    // Sessions and console readers live there: wrap calls to them in on_strand(vm.strand(), ...).
    [[nodiscard]] virtual asio::any_io_executor strand() const = 0;

    // Thread-safe, no I/O.
    [[nodiscard]] virtual VmView view() const = 0;
    // view() and what has to be measured: disk, memory, CPU, the guest's own numbers (those only
    // when the agent answers within a second).
    virtual Awaitable<Result<VmView>> details() = 0;

    virtual Awaitable<Result<void>> start() = 0;
    virtual Awaitable<Result<void>> stop(StopMode mode) = 0;
    virtual Awaitable<Result<void>> pause() = 0;
    // Goes on from a pause, or wakes from a suspension.
    virtual Awaitable<Result<void>> resume() = 0;
    // To disk: no process and no memory until resume(), or until the VM is used (ready(), open(),
    // attach(), write_console()).
    virtual Awaitable<Result<void>> suspend() = 0;

    // Saves the VM as it is now; it runs on, sessions lose nothing. conflict when the name is taken.
    virtual Awaitable<Result<CheckpointView>> checkpoint(CheckpointRequest request) = 0;

    [[nodiscard]] virtual VmPolicy policy() const = 0;
    // invalid when a period is too short.
    virtual Awaitable<Result<void>> set_policy(VmPolicy policy) = 0;

    // What the VM may reach. Kept with the VM: the same after a stop, a wake, a restore and a restart of
    // the server; clones begin with it. Thread-safe, no I/O.
    [[nodiscard]] virtual NetworkSettings network() const = 0;
    // In whatever state the VM is. Holds when this returns: connections that it denies are cut.
    // `unavailable` when the VM has a network and noid-netd does not answer; then nothing has changed.
    virtual Awaitable<Result<void>> set_network(NetworkSettings settings) = 0;
    // Since the VM got its place on the network. `unavailable` when it has none now.
    virtual Awaitable<Result<NetworkNumbers>> network_numbers() = 0;
    // In whatever state the VM is; kept with it, and clones begin with it. Holds when this returns. invalid
    // or limit_exceeded: see check() in vm/resources.hpp; `unsupported`: a balloon for a machine that woke
    // from a snapshot without one.
    virtual Awaitable<Result<void>> set_resources(ResourceChange change) = 0;
    // Ports of the host that lead to the guest. Kept with the VM, not copied into clones. The engine sees
    // that no two VMs have the same (`conflict`) and tells Engine::ports(); who listens there connects to
    // the guest with open() of a proto::TcpConnect, which wakes the VM if it is suspended.
    [[nodiscard]] virtual std::vector<PublishedPort> published_ports() const = 0;
    virtual Awaitable<Result<void>> set_published_ports(std::vector<PublishedPort> ports) = 0;

    // Waits until the VM is running and its agent answered, waking it if it is suspended. `conflict`
    // when it is paused, stopped or dead.
    virtual Awaitable<Result<void>> ready(std::chrono::milliseconds limit) = 0;

    // Sessions. open() and attach() include ready(). limit_exceeded beyond the configured number.
    virtual Awaitable<Result<std::shared_ptr<channel::Session>>> open(proto::SessionSpec spec) = 0;
    virtual Awaitable<Result<std::shared_ptr<channel::Session>>> attach(proto::SessionId id,
                                                                        proto::OutputOffsets have) = 0;
    virtual Awaitable<Result<std::vector<proto::SessionInfo>>> sessions() = 0;

    // Serial console. `tail_bytes`: begin that far before the end of the log. Input goes to the
    // guest's serial port as it is.
    virtual Awaitable<Result<std::shared_ptr<ConsoleReader>>> console(std::uint64_t tail_bytes,
                                                                      bool follow) = 0;
    virtual Awaitable<Result<void>> write_console(std::string bytes) = 0;
};

}  // namespace noid::vm
