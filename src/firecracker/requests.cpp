#include "firecracker/requests.hpp"

#include <boost/json.hpp>

namespace noid::firecracker {

namespace json = boost::json;

namespace {

// One UART and a keyboard controller that answers nothing but the reset: the kernel does not wait for
// devices that are not there. Firecracker adds root=, pci=off and its own device list.
constexpr const char* kernel_arguments =
    "console=ttyS0 reboot=k panic=1 quiet 8250.nr_uarts=1 i8042.noaux i8042.nomux i8042.dumbkbd";
constexpr const char* drive_id = "rootfs";
constexpr const char* interface_id = "eth0";
constexpr int guest_cid = 3;  // each Firecracker has a vsock of its own, so all guests may have the same

constexpr int statistics_period_s = 10;
constexpr int refill_ms = 1000;

// A bucket that is refilled each second; without a limit the one that switches the limiter off.
json::object bucket(std::uint64_t per_second) {
    return {{"size", per_second}, {"refill_time", per_second == 0 ? 0 : refill_ms}};
}

json::object rate_limiter(const vmm::DiskLimit& limit) {
    return {{"bandwidth", bucket(limit.bytes_per_second)}, {"ops", bucket(limit.operations_per_second)}};
}

Request put(std::string target, const json::object& body) {
    return {Request::Method::put, std::move(target), json::serialize(body)};
}
Request patch(std::string target, const json::object& body) {
    return {Request::Method::patch, std::move(target), json::serialize(body)};
}

}  // namespace

std::string describe(const Request& request) {
    switch (request.method) {
        case Request::Method::get:
            return "GET " + request.target;
        case Request::Method::put:
            return "PUT " + request.target;
        case Request::Method::patch:
            return "PATCH " + request.target;
    }
    return request.target;
}

Request machine_config(const vmm::MachineSpec& spec) {
    return put("/machine-config", {{"vcpu_count", spec.vcpus},
                                   {"mem_size_mib", spec.memory.count},
                                   {"track_dirty_pages", spec.track_dirty_pages}});
}

Request boot_source(const vmm::MachineSpec& spec) {
    std::string arguments = kernel_arguments;
    if (!spec.kernel_arguments.empty()) arguments += " " + spec.kernel_arguments;
    json::object body{{"kernel_image_path", spec.kernel.string()}, {"boot_args", arguments}};
    if (!spec.initrd.empty()) body["initrd_path"] = spec.initrd.string();
    return put("/boot-source", body);
}

Request root_drive(const vmm::MachineSpec& spec) {
    json::object body{{"drive_id", drive_id},
                      {"path_on_host", spec.rootfs},
                      {"is_root_device", true},
                      {"is_read_only", false}};
    if (spec.disk_limit != vmm::DiskLimit{}) body["rate_limiter"] = rate_limiter(spec.disk_limit);
    return put(std::string{"/drives/"} + drive_id, body);
}

Request network_interface(const vmm::NetworkAttachment& network) {
    return put(
        std::string{"/network-interfaces/"} + interface_id,
        {{"iface_id", interface_id}, {"guest_mac", network.guest_mac}, {"host_dev_name", network.tap}});
}

Request vsock() {
    return put("/vsock", {{"guest_cid", guest_cid}, {"uds_path", vsock_socket}});
}

Request entropy() {
    return put("/entropy", {});
}

// Hinting is left off: reporting does the same without being asked, and hinting is a preview.
Request balloon(const vmm::MachineSpec& spec) {
    return put("/balloon", {{"amount_mib", spec.balloon.count},
                            {"deflate_on_oom", true},
                            {"stats_polling_interval_s", statistics_period_s},
                            {"free_page_hinting", false},
                            {"free_page_reporting", true}});
}

Request instance_start() {
    return put("/actions", {{"action_type", "InstanceStart"}});
}

std::vector<Request> boot(const vmm::MachineSpec& spec) {
    std::vector<Request> requests{machine_config(spec), boot_source(spec), root_drive(spec)};
    if (spec.network) requests.push_back(network_interface(*spec.network));
    requests.push_back(vsock());
    requests.push_back(entropy());
    if (vmm::has_balloon(spec.layout)) requests.push_back(balloon(spec));
    requests.push_back(instance_start());
    return requests;
}

Request pause() {
    return patch("/vm", {{"state", "Paused"}});
}

Request resume() {
    return patch("/vm", {{"state", "Resumed"}});
}

Request instance_info() {
    return {Request::Method::get, "/", {}};
}

Request create_snapshot(const vmm::SnapshotFiles& files, vmm::SnapshotKind kind) {
    return put("/snapshot/create", {{"snapshot_type", kind == vmm::SnapshotKind::full ? "Full" : "Diff"},
                                    {"snapshot_path", files.state},
                                    {"mem_file_path", files.memory}});
}

Request load_snapshot(const vmm::MachineSpec& spec, const vmm::SnapshotFiles& files, vmm::Vmm::Wake wake) {
    json::object body{{"snapshot_path", files.state},
                      {"mem_backend", json::object{{"backend_type", "File"}, {"backend_path", files.memory}}},
                      {"track_dirty_pages", spec.track_dirty_pages},
                      {"resume_vm", wake == vmm::Vmm::Wake::running},
                      // Whatever directory and socket the snapshot was taken with.
                      {"vsock_override", json::object{{"uds_path", vsock_socket}}}};
    if (spec.network)
        body["network_overrides"] =
            json::array{json::object{{"iface_id", interface_id}, {"host_dev_name", spec.network->tap}}};
    return put("/snapshot/load", body);
}

Request set_balloon(MiB size) {
    return patch("/balloon", {{"amount_mib", size.count}});
}

Request balloon_statistics() {
    return {Request::Method::get, "/balloon/statistics", {}};
}

Request set_disk_limit(const vmm::DiskLimit& limit) {
    return patch(std::string{"/drives/"} + drive_id,
                 {{"drive_id", drive_id}, {"rate_limiter", rate_limiter(limit)}});
}

Request flush_metrics() {
    return put("/actions", {{"action_type", "FlushMetrics"}});
}

}  // namespace noid::firecracker
