#include "api/vm_answer.hpp"

#include <algorithm>
#include <chrono>

#include "api/endpoint_input.hpp"
#include "wire/names.hpp"

namespace noid::api {

std::int64_t unix_now() noexcept {
    const auto since = std::chrono::system_clock::now().time_since_epoch();
    return std::chrono::duration_cast<std::chrono::seconds>(since).count();
}

wire::VmInfo to_wire(vm::VmView view) {
    wire::VmInfo info;
    info.name = std::move(view.name);
    info.state = vm::name_of(view.state);
    info.cpus = view.cpus;
    info.mem_mib = view.memory.count;
    info.created_at = std::move(view.created_at);
    info.disk_mib = view.disk.count;
    info.labels = std::move(view.labels);
    info.image = std::move(view.image);
    info.address = std::move(view.address);
    info.vmm = std::move(view.vmm);
    info.start = std::move(view.start_kind);
    info.origin = std::move(view.origin);
    info.reason = std::move(view.reason);
    info.warnings = std::move(view.warnings);
    if (view.started_unix && view.state == vm::State::running) {
        const std::int64_t uptime = unix_now() - *view.started_unix;
        info.uptime_s = static_cast<std::uint64_t>(std::max<std::int64_t>(uptime, 0));
    }
    info.disk_used_bytes = view.disk_used;
    info.memory_used_bytes = view.memory_used;
    info.cpu_seconds = view.cpu_seconds;
    info.guest_memory_available_bytes = view.guest_memory_available;
    info.guest_disk_free_bytes = view.guest_disk_free;
    if (const auto& numbers = view.network_numbers) {
        info.traffic =
            wire::NetworkTraffic{.sent_bytes = numbers->sent.bytes,
                                 .sent_packets = numbers->sent.packets,
                                 .received_bytes = numbers->received.bytes,
                                 .received_packets = numbers->received.packets,
                                 .dropped_packets = numbers->forged.packets + numbers->isolated.packets,
                                 .denied_packets = numbers->denied.packets,
                                 .connections = numbers->connections};
    }
    const auto unless_zero = [](std::uint64_t value) {
        return value == 0 ? std::nullopt : std::optional{value};
    };
    info.balloon_mib = unless_zero(view.resources.balloon.count);
    info.disk_bytes_per_second = unless_zero(view.resources.disk.bytes_per_second);
    info.disk_ops_per_second = unless_zero(view.resources.disk.operations_per_second);
    if (const auto& memory = view.guest_memory) {
        info.guest_memory = wire::GuestMemory{.balloon_bytes = memory->balloon,
                                              .total_bytes = memory->total,
                                              .free_bytes = memory->free,
                                              .available_bytes = memory->available,
                                              .cached_bytes = memory->caches,
                                              .swapped_in_bytes = memory->swapped_in,
                                              .swapped_out_bytes = memory->swapped_out,
                                              .major_faults = memory->major_faults,
                                              .minor_faults = memory->minor_faults};
    }
    if (const auto& devices = view.devices) {
        info.devices = wire::DeviceCounters{.disk_read_bytes = devices->disk_read_bytes,
                                            .disk_written_bytes = devices->disk_written_bytes,
                                            .disk_reads = devices->disk_reads,
                                            .disk_writes = devices->disk_writes,
                                            .disk_flushes = devices->disk_flushes,
                                            .disk_errors = devices->disk_errors,
                                            .disk_throttled = devices->disk_throttled,
                                            .network_received_bytes = devices->network_received_bytes,
                                            .network_sent_bytes = devices->network_sent_bytes,
                                            .vsock_received_bytes = devices->vsock_received_bytes,
                                            .vsock_sent_bytes = devices->vsock_sent_bytes,
                                            .vcpu_exits = devices->vcpu_exits,
                                            .vcpu_errors = devices->vcpu_errors,
                                            .seccomp_faults = devices->seccomp_faults};
    }
    // The guest says these: bounded, and made fit for JSON.
    if (view.agent_version) info.agent_version = wire::clipped(*view.agent_version);
    if (view.guest_os) info.guest_os = wire::clipped(*view.guest_os);
    return info;
}

Response vm_response(vm::VmView view, unsigned status) {
    return json_response(wire::to_json(to_wire(std::move(view))), status);
}

}  // namespace noid::api
