#pragma once

#include <cstdint>
#include <optional>

#include "base/units.hpp"

// What a machine consists of besides CPUs and memory, and what is known of it while it runs.
namespace noid::vmm {

// The devices of a machine, by number: a snapshot wakes only where there are those that it was saved with, so
// what a number means never changes. 0: disk, console, agent's channel, entropy, network if there is one.
// 1: the same and a balloon.
using Layout = std::uint32_t;
inline constexpr Layout newest_layout = 1;
[[nodiscard]] constexpr bool has_balloon(Layout layout) noexcept {
    return layout >= 1;
}

// How much a machine may do with its disk, reading and writing together. 0: not limited.
struct DiskLimit {
    std::uint64_t bytes_per_second = 0;
    std::uint64_t operations_per_second = 0;
    bool operator==(const DiskLimit&) const = default;
};

// A guest's memory as its balloon's driver tells it, in bytes; what it does not tell is not there. The guest
// is free to lie.
struct MemoryNumbers {
    std::uint64_t balloon = 0;  // that the balloon holds: given back to the host
    std::optional<std::uint64_t> total;
    std::optional<std::uint64_t> free;
    std::optional<std::uint64_t> available;  // without swapping
    std::optional<std::uint64_t> caches;     // of files
    std::optional<std::uint64_t> swapped_in;
    std::optional<std::uint64_t> swapped_out;
    std::optional<std::uint64_t> major_faults;  // since it booted
    std::optional<std::uint64_t> minor_faults;
};

// What the VMM has counted since its process began, or, of what is marked so, since this server looks after
// it. What a VMM does not count is not there.
struct DeviceNumbers {
    std::uint64_t disk_read_bytes =
        0;  // Firecracker: since this server looks after it, as all of its numbers
    std::uint64_t disk_written_bytes = 0;
    std::uint64_t disk_reads = 0;
    std::uint64_t disk_writes = 0;
    std::uint64_t disk_flushes = 0;
    std::uint64_t disk_errors = 0;
    std::optional<std::uint64_t> disk_throttled;  // times that a limit made the guest wait
    std::optional<std::uint64_t> network_received_bytes;
    std::optional<std::uint64_t> network_sent_bytes;
    std::optional<std::uint64_t> vsock_received_bytes;  // by the guest
    std::optional<std::uint64_t> vsock_sent_bytes;
    std::optional<std::uint64_t> vcpu_exits;  // to the VMM, for I/O
    std::optional<std::uint64_t> vcpu_errors;
    std::optional<std::uint64_t> seccomp_faults;  // system calls that its filter refused
};

}  // namespace noid::vmm
