#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "base/process_identity.hpp"
#include "vmm/warden.hpp"

namespace noid::vm {

// What a VMM process costs its host, as far as the kernel tells us. Blocking.
struct ProcessUsage {
    std::optional<std::uint64_t>
        memory;  // bytes, proportional share (shared pages divided among their users)
    std::optional<double> cpu_seconds;
};
[[nodiscard]] ProcessUsage usage_of(vmm::Warden& warden, const ProcessIdentity& process);

// Bytes that the files in a directory really occupy together: hard links and blocks that several of the
// files share are counted once. What they share with files elsewhere counts in full. Blocking.
[[nodiscard]] std::optional<std::uint64_t> space_taken(const std::filesystem::path& directory);

// Bytes that the files in a directory occupy, each counted alone. Blocking.
[[nodiscard]] std::optional<std::uint64_t> disk_usage(const std::filesystem::path& directory);

}  // namespace noid::vm
