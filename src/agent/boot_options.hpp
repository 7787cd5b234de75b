#pragma once

#include <string>
#include <string_view>

#include "base/error.hpp"

namespace noid::agent {

// How a machine that is told to power off gets its VMM to end.
enum class PowerOff {
    power_off,  // ACPI, which QEMU offers
    reset,      // Firecracker has no power button: it ends when the guest resets
};

// What the kernel's command line says to the initrd. Later words win over earlier ones.
struct BootOptions {
    std::string root = "/dev/vda";             // noid.root=DEVICE
    std::string init;                          // noid.init=PATH; empty (noid.init=agent): the agent's own
    PowerOff power_off = PowerOff::power_off;  // `reset` with reboot=k, which Firecracker's guests are given
};

[[nodiscard]] BootOptions parse_boot_options(std::string_view command_line);
// Those of the running kernel, from /proc/cmdline.
[[nodiscard]] Result<BootOptions> read_boot_options();

}  // namespace noid::agent
