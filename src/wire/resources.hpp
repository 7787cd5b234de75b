#pragma once

#include <cstdint>
#include <optional>

#include "wire/json.hpp"

// What of a VM's machine its owner may change, and what is counted of it.
namespace noid::wire {

// PATCH /v1/vms/{name}; what is not said stays as it is.
struct ChangeVm {
    std::optional<std::uint64_t> balloon_mib;            // 0: none
    std::optional<std::uint64_t> disk_bytes_per_second;  // 0: not limited
    std::optional<std::uint64_t> disk_ops_per_second;

    // Unknown members are errors: a misspelt limit would be one that does not hold.
    [[nodiscard]] static Result<ChangeVm> from_json(const json::value& value);
    bool operator==(const ChangeVm&) const = default;
};
[[nodiscard]] json::object to_json(const ChangeVm& change);

// "guest_memory" in a VM's description: bytes, as the guest's balloon driver tells.
struct GuestMemory {
    std::uint64_t balloon_bytes = 0;  // given back to the host
    std::optional<std::uint64_t> total_bytes;
    std::optional<std::uint64_t> free_bytes;
    std::optional<std::uint64_t> available_bytes;
    std::optional<std::uint64_t> cached_bytes;
    std::optional<std::uint64_t> swapped_in_bytes;
    std::optional<std::uint64_t> swapped_out_bytes;
    std::optional<std::uint64_t> major_faults;
    std::optional<std::uint64_t> minor_faults;

    [[nodiscard]] static Result<GuestMemory> from_json(const json::value& value);
};
[[nodiscard]] json::object to_json(const GuestMemory& memory);

// "devices" in a VM's description, as the VMM counts; what it does not count is not there.
struct DeviceCounters {
    std::uint64_t disk_read_bytes = 0;
    std::uint64_t disk_written_bytes = 0;
    std::uint64_t disk_reads = 0;
    std::uint64_t disk_writes = 0;
    std::uint64_t disk_flushes = 0;
    std::uint64_t disk_errors = 0;
    std::optional<std::uint64_t> disk_throttled;
    std::optional<std::uint64_t> network_received_bytes;
    std::optional<std::uint64_t> network_sent_bytes;
    std::optional<std::uint64_t> vsock_received_bytes;
    std::optional<std::uint64_t> vsock_sent_bytes;
    std::optional<std::uint64_t> vcpu_exits;
    std::optional<std::uint64_t> vcpu_errors;
    std::optional<std::uint64_t> seccomp_faults;

    [[nodiscard]] static Result<DeviceCounters> from_json(const json::value& value);
};
[[nodiscard]] json::object to_json(const DeviceCounters& counters);

}  // namespace noid::wire
