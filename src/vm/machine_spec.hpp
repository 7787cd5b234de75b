#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "config/server_config.hpp"
#include "vm/network.hpp"
#include "vmm/vmm.hpp"

namespace noid::vm {

// The machine that this server runs, or wakes, in `directory`.
[[nodiscard]] vmm::MachineSpec machine_spec(const config::ServerConfig& config, std::string id,
                                            std::filesystem::path directory, std::uint32_t cpus, MiB memory,
                                            const std::optional<Slot>& slot);

}  // namespace noid::vm
