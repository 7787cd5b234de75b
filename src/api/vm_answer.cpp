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
    // The guest says these: bounded, and made fit for JSON.
    if (view.agent_version) info.agent_version = wire::clipped(*view.agent_version);
    if (view.guest_os) info.guest_os = wire::clipped(*view.guest_os);
    return info;
}

Response vm_response(vm::VmView view, unsigned status) {
    return json_response(wire::to_json(to_wire(std::move(view))), status);
}

}  // namespace noid::api
