#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "vmm/vmm.hpp"

// The requests to Firecracker's API, as values.
namespace noid::firecracker {

// Names inside the VM's directory, which is Firecracker's working directory. v.sock is written into
// snapshots, so it must stay as it is.
inline constexpr const char* api_socket = "api.sock";
inline constexpr const char* vsock_socket = "v.sock";

struct Request {
    enum class Method : std::uint8_t { get, put, patch } method = Method::get;
    std::string target;  // "/machine-config"
    std::string body;    // JSON; empty for GET
    bool operator==(const Request&) const = default;
};
[[nodiscard]] std::string describe(const Request& request);  // "PUT /machine-config"

[[nodiscard]] Request machine_config(const vmm::MachineSpec& spec);
[[nodiscard]] Request boot_source(const vmm::MachineSpec& spec);
[[nodiscard]] Request root_drive(const vmm::MachineSpec& spec);
[[nodiscard]] Request network_interface(const vmm::NetworkAttachment& network);
[[nodiscard]] Request vsock();
[[nodiscard]] Request entropy();
[[nodiscard]] Request balloon(const vmm::MachineSpec& spec);
[[nodiscard]] Request instance_start();

// All that makes a machine of a fresh Firecracker and starts it, in the order to send.
[[nodiscard]] std::vector<Request> boot(const vmm::MachineSpec& spec);

[[nodiscard]] Request pause();
[[nodiscard]] Request resume();
[[nodiscard]] Request instance_info();
[[nodiscard]] Request create_snapshot(const vmm::SnapshotFiles& files, vmm::SnapshotKind kind);
[[nodiscard]] Request load_snapshot(const vmm::MachineSpec& spec, const vmm::SnapshotFiles& files,
                                    vmm::Vmm::Wake wake);

[[nodiscard]] Request set_balloon(MiB size);
[[nodiscard]] Request balloon_statistics();
[[nodiscard]] Request set_disk_limit(const vmm::DiskLimit& limit);
// Has Firecracker write its metrics into the FIFO that is there for them.
[[nodiscard]] Request flush_metrics();

}  // namespace noid::firecracker
