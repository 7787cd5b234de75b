#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"

namespace noid::agent {

// When a module is loaded: before the root file system is mounted, or when the agent already runs.
enum class ModuleStage : std::uint8_t { early, late };

// The device that a module is for; it is loaded only where that device is.
struct ModuleCondition {
    enum class Kind : std::uint8_t { always, virtio, pci } kind = Kind::always;
    std::uint32_t id = 0;  // virtio: device number; pci: vendor
};

struct KernelModule {
    ModuleStage stage = ModuleStage::early;
    std::string file;  // a plain name below the initrd's /modules
    ModuleCondition condition;
};

// Reads the initrd's /modules/order: lines `STAGE FILE CONDITION`, dependencies first. `corrupt`
// names the line that is wrong.
[[nodiscard]] Result<std::vector<KernelModule>> parse_module_order(std::string_view text);

// Loads the modules of one stage, in order, out of the directory descriptor `modules`. A module
// that the kernel has already is fine. One that fails is logged and passed over: whoever needs it
// says what is missing in better words. Blocks until all are initialised; the devices they drive
// are there when this returns.
void load_modules(int modules, std::span<const KernelModule> order, ModuleStage stage);

}  // namespace noid::agent
