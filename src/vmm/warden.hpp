#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/error.hpp"
#include "base/fd.hpp"
#include "base/process_identity.hpp"
#include "launcher/launcher.hpp"
#include "vmm/vmm.hpp"

namespace noid::vmm {

// A QEMU that runs `spec` of a ProcessRequest. Descriptors: see qemu::InheritedNumbers, and output at 1
// and 2.
struct QemuStart {
    bool kvm = false;  // else it emulates the CPU
    std::uint64_t tsc_khz = 0;
    bool vhost_net = false;
    std::optional<std::string> memory_file;  // it wakes over this file of its directory; none: it boots
    bool paused = false;                     // when it wakes
};
// A Firecracker that waits for requests. Descriptors 0 to 2.
struct FirecrackerStart {};
// A Firecracker that prints its version, where it would run, and ends; `spec` is not looked at. Descriptor 1.
struct FirecrackerVersion {};
// A QEMU that prints its version and ends, likewise. Descriptors 1 and 2.
struct QemuVersion {};
// A QEMU that runs a guest of three instructions under KVM (see qemu/host_trial.hpp), likewise. Descriptors
// 1 and 2.
struct QemuTrial {};

// A process to start: a closed choice, bounded values, names. No program, no arguments, no path but the VM's
// directory, which lies in the data directory. Kernel and initrd are the configured ones.
struct ProcessRequest {
    MachineSpec spec;
    std::variant<QemuStart, FirecrackerStart, FirecrackerVersion, QemuVersion, QemuTrial> program;
    std::vector<launcher::InheritedFd> descriptors;
};

// Whether it runs a VM, and so works in a directory and may join a network; the others only tell something.
[[nodiscard]] inline bool runs_a_vm(const ProcessRequest& request) noexcept {
    return std::holds_alternative<QemuStart>(request.program) ||
           std::holds_alternative<FirecrackerStart>(request.program);
}

// What /proc knows of a process, open for reading: the files of these names.
struct ProcessFiles {
    Fd memory;  // "mem"
    Fd pagemap;
    Fd maps;
    Fd smaps_rollup;
    Fd output;       // what its standard error goes into, if that is captured output, else none
    Fd userfaultfd;  // its own one, see vmm/userfaultfd.hpp, or none
    std::uint64_t bytes_written = 0;  // to files and pipes, from its start until now
};

// What of the host VMMs may use here, tried with the rights of who starts them.
struct HostDevices {
    Result<void> kvm;        // or why it does not work
    bool vhost_net = false;  // /dev/vhost-net
};

// A VMM, and the directory that it works in.
struct WorkingProcess {
    ProcessIdentity identity;
    std::uint64_t device = 0;  // st_dev and st_ino of the directory
    std::uint64_t inode = 0;
};

// What reclaim() has done: everything, or as much as goes at once.
enum class Reclaimed : std::uint8_t { all, a_part };

// Starts VMM processes, and does to them what takes privileges. Everything blocks for milliseconds: call it
// on a pool. Thread-safe.
class Warden {
  public:
    Warden() = default;
    Warden(const Warden&) = delete;
    Warden& operator=(const Warden&) = delete;
    virtual ~Warden() = default;

    // Whether each VMM gets a user and a root of its own. Then its directory is the group's that it runs as,
    // with set-group-id: what the server makes in there is opened to the VMM by a mode alone.
    [[nodiscard]] virtual bool confines() const noexcept = 0;
    [[nodiscard]] virtual const HostDevices& devices() const noexcept = 0;

    [[nodiscard]] virtual Result<launcher::Launched> start(ProcessRequest request) = 0;
    // Looks after a VMM that runs already in `directory`, a VM's. not_found if it is gone; forbidden if it is
    // no VMM, or works elsewhere.
    [[nodiscard]] virtual Result<launcher::Launched> adopt(const ProcessIdentity& process,
                                                           const std::filesystem::path& directory) = 0;
    // Does ahead what makes the next start faster. To be called while nobody waits.
    virtual void get_ready() {}
    // Of a VMM that was started or adopted.
    [[nodiscard]] virtual Result<ProcessFiles> files_of(const ProcessIdentity& process) = 0;
    // All VMMs; those of other data directories may be among them.
    [[nodiscard]] virtual Result<std::vector<WorkingProcess>> processes() = 0;
    // Removes what VMMs have made in `directory`, one of the server's own, and kept the server out of.
    // a_part: ask again. conflict while a VMM works in it.
    [[nodiscard]] virtual Result<Reclaimed> reclaim(const std::filesystem::path& directory) = 0;
};

}  // namespace noid::vmm
