#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "vmm/vmm.hpp"

namespace noid::qemu {

// How much translated code QEMU keeps where it emulates the CPU. Its own choice is a gigabyte.
inline constexpr std::uint32_t translated_code_mib = 256;

enum class Accelerator : std::uint8_t { kvm, tcg };
[[nodiscard]] std::string_view name_of(Accelerator accelerator) noexcept;  // "kvm", "tcg"

// What holds for every machine of this host.
struct Host {
    Accelerator accelerator = Accelerator::tcg;
    std::uint64_t tsc_khz = 0;  // rate of the time stamp counter; used with TCG only
    bool vhost_net = false;     // /dev/vhost-net may be used
};

// The numbers under which QEMU finds what it inherits.
struct InheritedNumbers {
    int control = 3;  // listening sockets: QMP,
    int agent = 4;    // the agent's port,
    int console = 5;  // the serial console
    int state = 6;    // the device state to restore, if any
};

// How a machine begins its life: by booting, or from the memory (a name in its directory) and the device
// state of a snapshot.
struct Beginning {
    std::optional<std::string> memory_file;
    vmm::Vmm::Wake wake = vmm::Vmm::Wake::running;
};

// QEMU's arguments after its own name. The devices depend on `spec` alone, so that a saved machine finds the
// same ones when it wakes. Names in the VM's directory stay relative.
[[nodiscard]] std::vector<std::string> command_line(const vmm::MachineSpec& spec, const Host& host,
                                                    const InheritedNumbers& numbers,
                                                    const Beginning& beginning);

// Names of devices, for QMP.
inline constexpr auto disk_device = "disk";
inline constexpr auto balloon_device = "balloon";

// What the guest's kernel is told, ours first.
[[nodiscard]] std::string kernel_arguments(const vmm::MachineSpec& spec, const Host& host);

}  // namespace noid::qemu
