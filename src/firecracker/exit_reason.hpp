#pragma once

#include <cstdint>
#include <string_view>

#include "launcher/process.hpp"
#include "vmm/vmm.hpp"

namespace noid::firecracker {

enum class EndedBy : std::uint8_t { itself, us };

// Why a Firecracker process ended, from its status and the end of its log. Firecracker does not tell a
// guest's reboot from its shutdown: both are guest_shutdown.
[[nodiscard]] vmm::Exit exit_reason(const launcher::ExitStatus& status, EndedBy ended_by,
                                    std::string_view last_words);

}  // namespace noid::firecracker
