#pragma once

#include <boost/asio/local/stream_protocol.hpp>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/async.hpp"
#include "base/error.hpp"
#include "base/process_identity.hpp"
#include "base/units.hpp"
#include "vmm/devices.hpp"

// The seam between the VM life cycle and the programs that run virtual machines. Two real
// implementations stand behind it: qemu/ and firecracker/.
namespace noid::vmm {

enum class Kind : std::uint8_t { qemu, firecracker };
[[nodiscard]] std::string_view name_of(Kind kind) noexcept;  // "qemu", "firecracker"

// What an operator reads about the VMM that was chosen, and what a snapshot must match.
struct Description {
    Kind kind = Kind::qemu;
    std::string version;          // as the program prints it: "7.2.22", "1.16.1"
    std::string accelerator;      // "kvm" or "tcg"
    std::string cpu_fingerprint;  // hash over what the guest may see of the CPU; equal = restorable
    bool can_pause_bare = true;   // false: pausing without a snapshot breaks the agent channel
    // False: a guest that runs again after a pause has dropped the agent's connection without a word, and
    // the host's end of it gives neither bytes nor an end.
    bool connection_outlives_pause = true;
};

// One TAP in one network namespace, made ready by netd.
struct NetworkAttachment {
    std::string tap;              // interface name inside the namespace
    std::string guest_mac;        // "AA:FC:00:00:00:01"
    std::filesystem::path netns;  // e.g. /run/netns/noid3; empty: the server's own
};

// The machine to run. All paths that end up in a snapshot are names relative to `directory`, which
// becomes the VMM's working directory, so that a snapshot can be loaded anywhere.
struct MachineSpec {
    std::string id;                   // for logs and process names
    std::filesystem::path directory;  // the VM's own, exists; sockets and console log appear here
    std::uint32_t vcpus = 1;
    MiB memory{256};
    std::filesystem::path kernel;        // ELF vmlinux
    std::filesystem::path initrd;        // empty: none
    std::string kernel_arguments;        // after those that the VMM itself needs
    std::string rootfs = "rootfs.ext4";  // name inside `directory`, writable
    std::optional<NetworkAttachment> network;
    bool track_dirty_pages = false;
    Layout layout = newest_layout;  // to restore: that of the snapshot
    DiskLimit disk_limit;
    DiskLimit saved_disk_limit;  // to restore: that which the machine had when it was saved
    MiB balloon;                 // to boot with; a snapshot brings its own
};

// The files of a snapshot, named relative to the VM's directory (hard links or reflinks put there
// before the call).
struct SnapshotFiles {
    // Not an aggregate: g++ 12 destroys an aggregate that is a temporary of a co_await expression twice.
    SnapshotFiles() = default;
    SnapshotFiles(std::string memory_name, std::string state_name)
        : memory{std::move(memory_name)}, state{std::move(state_name)} {}

    std::string memory = "memory.snap";  // mapped private, never written
    std::string state = "vmstate.snap";
};

enum class SnapshotKind : std::uint8_t { full, incremental };

// What a finished save wrote; a basis for benchmarks and for `checkpoint info`.
struct SaveReport {
    std::uint64_t bytes_written = 0;     // memory and device state, without the disk
    std::chrono::microseconds paused{};  // how long the vCPUs stood still for this call
};

// What finds a VMM again after the server was restarted.
using noid::ProcessIdentity;

// How a VMM process ended.
struct Exit {
    enum class How : std::uint8_t { guest_shutdown, guest_reboot, killed, crashed } how = How::crashed;
    std::string detail;  // exit status or signal, and the VMM's last words, bounded
};

// One running VMM with its one guest. Lives on the strand given at start; every member is called
// there. Not copyable; destroying it neither stops the guest nor waits: the process lives on and
// can be adopted.
class Machine {
  public:
    Machine() = default;
    Machine(const Machine&) = delete;
    Machine& operator=(const Machine&) = delete;
    virtual ~Machine() = default;

    [[nodiscard]] virtual ProcessIdentity identity() const = 0;

    // A connection to the agent's byte stream in the guest. Succeeds as soon as the VMM accepts it;
    // the agent answers when it is up. A new connection replaces the one before.
    virtual Awaitable<Result<asio::local::stream_protocol::socket>> connect_agent() = 0;

    // Stops the vCPUs. conflict unless running. Cancelled: paused or running, never between.
    virtual Awaitable<Result<void>> pause() = 0;
    virtual Awaitable<Result<void>> resume() = 0;

    // While the guest runs, before pause() and save() of the same files: writes ahead what can be, so that
    // the pause becomes shorter. What the guest changes meanwhile is in the save all the same. Fails as
    // save() does.
    virtual Awaitable<Result<void>> save_ahead(const SnapshotFiles& /*files*/, SnapshotKind /*kind*/) {
        co_return Result<void>{};
    }

    // Writes memory and device state of a *paused* machine into its directory under the names in
    // `files`. incremental: `files.memory` is a clone of the memory of the snapshot this machine
    // was last saved to or restored from, and only what changed since is written over it.
    // The disk is the caller's to clone while the machine is paused.
    virtual Awaitable<Result<SaveReport>> save(const SnapshotFiles& files, SnapshotKind kind) = 0;

    // What the guest writes to its serial console: the next bytes since start or adopt, at most
    // 64 KiB. One caller at a time; the caller keeps the log. Whoever does not read holds up at most
    // the guest's console. unavailable when the process has ended and everything was read.
    virtual Awaitable<Result<std::string>> read_console() = 0;
    // Bytes for the guest's serial console.
    virtual Awaitable<Result<void>> write_console(std::string_view bytes) = 0;

    // Asks the guest to give `size` of its memory back to the host, or takes less than before: then the guest
    // may use the rest again. Returns when the guest has been asked; it gives what it can spare, and takes
    // back what it needs before it runs out. unsupported: the machine has no balloon.
    virtual Awaitable<Result<void>> set_balloon(MiB size) = 0;
    // unsupported: the machine has no balloon.
    virtual Awaitable<Result<MemoryNumbers>> memory_numbers() = 0;
    // From now on; a paused machine's, too.
    virtual Awaitable<Result<void>> set_disk_limit(DiskLimit limit) = 0;
    virtual Awaitable<Result<DeviceNumbers>> device_numbers() = 0;

    // Waits until the process has ended, and reaps it where it is our child. Any number of waiters.
    virtual Awaitable<Exit> exited() = 0;

    // Ends the process: SIGTERM, `grace`, SIGKILL. Returns when it is gone.
    virtual Awaitable<Result<void>> kill(std::chrono::milliseconds grace) = 0;
};

class Vmm {
  public:
    Vmm() = default;
    Vmm(const Vmm&) = delete;
    Vmm& operator=(const Vmm&) = delete;
    virtual ~Vmm() = default;

    [[nodiscard]] virtual const Description& description() const = 0;

    // Boots. Returns when the VMM runs the guest's first instruction, not when the guest is up.
    virtual Awaitable<Result<std::unique_ptr<Machine>>> start(const MachineSpec& spec) = 0;

    // Wakes a saved machine in a new process, running when this returns (or paused, on request).
    enum class Wake : std::uint8_t { running, paused };
    virtual Awaitable<Result<std::unique_ptr<Machine>>> restore(const MachineSpec& spec,
                                                                const SnapshotFiles& files, Wake wake) = 0;

    // Takes over a VMM that an earlier server process started. not_found if it is gone.
    virtual Awaitable<Result<std::unique_ptr<Machine>>> adopt(const MachineSpec& spec,
                                                              ProcessIdentity identity) = 0;
};

}  // namespace noid::vmm
