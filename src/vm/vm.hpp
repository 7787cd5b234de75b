#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/async.hpp"
#include "base/error.hpp"
#include "channel/session.hpp"
#include "proto/messages.hpp"
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
    virtual Awaitable<Result<void>> resume() = 0;

    // Waits until the VM is running and its agent answered, waking it if it sleeps. `conflict` when
    // it is stopped or dead.
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
