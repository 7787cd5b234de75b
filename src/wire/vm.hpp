#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "wire/json.hpp"
#include "wire/network.hpp"
#include "wire/resources.hpp"

namespace noid::wire {

inline constexpr std::uint32_t default_cpus = 1;
inline constexpr std::uint64_t default_mem_mib = 2048;
inline constexpr std::size_t max_labels = 64;
inline constexpr std::size_t max_label_bytes = 256;  // of a key, of a value

// One VM as the API shows it. The first five are what every client reads; the rest are additions,
// left out where they are not known.
struct VmInfo {
    std::string name;
    std::string state;  // "creating", "running", "paused", "suspended", "stopped", "dead", "destroying"
    std::uint32_t cpus = 0;
    std::uint64_t mem_mib = 0;
    std::string created_at;  // UTC "YYYY-MM-DD HH:MM:SS"

    std::uint64_t disk_mib = 0;  // virtual size
    std::map<std::string, std::string> labels;
    std::string image;                  // empty: the server's default
    std::string address;                // empty: no network
    std::string vmm;                    // "qemu", "firecracker"
    std::string start;                  // "boot", "template", "golden", "pool", "checkpoint", "suspension"
    std::string origin;                 // id of the checkpoint it was made from or put back to
    std::string reason;                 // why it is dead or degraded
    std::vector<std::string> warnings;  // of the create
    std::optional<std::uint64_t> uptime_s;
    std::optional<std::uint64_t> disk_used_bytes;
    std::optional<std::uint64_t> memory_used_bytes;
    std::optional<double> cpu_seconds;
    std::optional<std::uint64_t> guest_memory_available_bytes;
    std::optional<std::uint64_t> guest_disk_free_bytes;
    std::optional<std::string> agent_version;
    std::optional<std::string> guest_os;
    std::optional<NetworkTraffic> traffic;
    std::optional<std::uint64_t> balloon_mib;            // that the guest is asked to give back; not if 0
    std::optional<std::uint64_t> disk_bytes_per_second;  // not if not limited
    std::optional<std::uint64_t> disk_ops_per_second;
    std::optional<GuestMemory> guest_memory;
    std::optional<DeviceCounters> devices;

    [[nodiscard]] static Result<VmInfo> from_json(const json::value& value);
};
[[nodiscard]] json::object to_json(const VmInfo& vm, json::storage_ptr storage = {});

// A host port that leads to a port in the guest; "8080:80" in text.
struct PortMapping {
    std::uint16_t host = 0;
    std::uint16_t guest = 0;

    [[nodiscard]] static Result<PortMapping> parse(std::string_view text);
    auto operator<=>(const PortMapping&) const = default;
};

// POST /v1/vms
struct CreateVm {
    std::string name;
    std::uint32_t cpus = default_cpus;        // also read from "vcpus"
    std::uint64_t mem_mib = default_mem_mib;  // also read from "memory"
    std::optional<std::uint64_t> disk_mib;    // default: the image's own size
    std::map<std::string, std::string> labels;
    std::vector<std::string> env;  // "K=V", for every session in the VM
    std::string image;
    Network network = Network::open;
    std::optional<NetworkPolicy> policy;  // instead of `network`: its mode and more
    std::vector<PortMapping> ports;
    std::optional<std::uint64_t> disk_bytes_per_second;  // 0: not limited; default: the server's
    std::optional<std::uint64_t> disk_ops_per_second;
    bool boot = false;            // boot, even if there is a template to wake from
    std::string idempotency_key;  // at most 128 bytes; the Idempotency-Key header says the same

    // Types only; check() has the rules.
    [[nodiscard]] static Result<CreateVm> from_json(const json::value& value);
    // Name, environment and labels, with the texts that clients know.
    [[nodiscard]] Result<void> check() const;
};
[[nodiscard]] json::object to_json(const CreateVm& request, json::storage_ptr storage = {});

}  // namespace noid::wire
