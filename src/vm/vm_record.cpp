#include "vm/vm_record.hpp"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <boost/json/serialize.hpp>
#include <boost/json/value_from.hpp>
#include <cerrno>
#include <cstdio>
#include <ctime>

#include "base/file.hpp"
#include "wire/json.hpp"

namespace noid::vm {

namespace json = boost::json;
namespace fs = std::filesystem;

namespace {

constexpr std::int64_t record_format = 1;
constexpr const char* record_file = "vm.json";
constexpr std::size_t largest_record = 8 << 20;  // 64 values of 32 KiB, escaped, and to spare

json::object slot_json(const Slot& slot) {
    json::object object;
    object["index"] = slot.index;
    object["tap"] = slot.attachment.tap;
    object["netns"] = slot.attachment.netns.string();
    object["mac"] = slot.attachment.guest_mac;
    object["guest_address"] = slot.guest.address;
    object["gateway"] = slot.guest.gateway;
    object["nameservers"] = json::value_from(slot.guest.nameservers);
    object["mtu"] = slot.guest.mtu;
    object["address"] = slot.address;
    return object;
}

Result<Slot> parse_slot(const json::value& value) {
    Slot slot;
    std::string netns;
    wire::FieldReader fields{value};
    fields.required("index", slot.index);
    fields.required("tap", slot.attachment.tap);
    fields.required("netns", netns);
    fields.required("mac", slot.attachment.guest_mac);
    fields.required("guest_address", slot.guest.address);
    fields.required("gateway", slot.guest.gateway);
    fields.required("nameservers", slot.guest.nameservers);
    fields.required("mtu", slot.guest.mtu);
    fields.required("address", slot.address);
    if (auto read = fields.done(); !read) return fail(Errc::corrupt, "network slot: " + read.error().what);
    slot.attachment.netns = netns;
    slot.guest.mac = slot.attachment.guest_mac;
    return slot;
}

std::string lineage_text(const Lineage& lineage) {
    json::object object;
    object["basis"] = static_cast<int>(lineage.basis);
    object["origin"] = lineage.origin;
    object["parent"] = lineage.parent;
    return json::serialize(object);
}

Result<Lineage> parse_lineage(std::string_view text) {
    Lineage lineage;
    if (text.empty()) return lineage;
    auto value = wire::parse_json(text);
    if (!value) return fail(Errc::corrupt, "lineage: " + value.error().what);
    std::uint8_t basis = 0;
    wire::FieldReader fields{*value};
    fields.required("basis", basis);
    fields.required("origin", lineage.origin);
    fields.required("parent", lineage.parent);
    if (auto read = fields.done(); !read) return fail(Errc::corrupt, "lineage: " + read.error().what);
    if (basis > static_cast<std::uint8_t>(Lineage::Basis::parent))
        return fail(Errc::corrupt, "lineage: unknown basis");
    lineage.basis = static_cast<Lineage::Basis>(basis);
    return lineage;
}

json::array ports_json(const std::vector<PublishedPort>& ports) {
    json::array array;
    for (const PublishedPort& port : ports) {
        array.push_back(
            json::object{{"guest", port.guest}, {"host", port.host}, {"public", port.public_access}});
    }
    return array;
}

Result<std::vector<PublishedPort>> parse_ports(const json::value& value) {
    if (!value.is_array()) return fail(Errc::corrupt, "published ports: not an array");
    std::vector<PublishedPort> ports;
    for (const json::value& each : value.get_array()) {
        PublishedPort port;
        wire::FieldReader fields{each};
        fields.required("guest", port.guest);
        fields.required("host", port.host);
        fields.required("public", port.public_access);
        if (auto read = fields.done(); !read)
            return fail(Errc::corrupt, "published ports: " + read.error().what);
        ports.push_back(port);
    }
    return ports;
}

// What is set for the VM while it exists; empty: all as it was made.
std::string policy_text(const VmStatus& status) {
    const VmPolicy& policy = status.policy;
    json::object object;
    if (status.layout != 0) object["layout"] = status.layout;
    if (status.resources) {
        json::object resources;
        put_resources(resources, *status.resources);
        object["resources"] = std::move(resources);
    }
    if (status.network) object["network"] = status.network->to_json();
    if (!status.ports.empty()) object["ports"] = ports_json(status.ports);
    if (policy.checkpoint_every) object["checkpoint_every_s"] = policy.checkpoint_every->count();
    object["checkpoint_keep"] = policy.checkpoint_keep;
    if (policy.idle_suspend) object["idle_suspend_s"] = policy.idle_suspend->count();
    return json::serialize(object);
}

Result<void> parse_policy(std::string_view text, VmStatus& status) {
    VmPolicy& policy = status.policy;
    if (text.empty()) return {};
    auto value = wire::parse_json(text);
    if (!value) return fail(Errc::corrupt, "policy: " + value.error().what);
    std::optional<std::int64_t> every;
    std::optional<std::int64_t> idle;
    wire::FieldReader fields{*value};
    fields.optional("checkpoint_every_s", every);
    fields.required("checkpoint_keep", policy.checkpoint_keep);
    fields.optional("idle_suspend_s", idle);
    fields.optional("layout", status.layout);
    if (auto read = fields.done(); !read) return fail(Errc::corrupt, "policy: " + read.error().what);
    if (every) policy.checkpoint_every = std::chrono::seconds{*every};
    if (idle) policy.idle_suspend = std::chrono::seconds{*idle};
    if (const json::value* member = fields.find("network")) {
        auto network = NetworkSettings::from_json(*member);
        if (!network) return fail(Errc::corrupt, "policy: network: " + network.error().what);
        status.network = std::move(*network);
    }
    if (const json::value* member = fields.find("resources")) {
        auto resources = read_resources(*member);
        if (!resources) return fail(std::move(resources.error()).at("policy"));
        status.resources = *resources;
    }
    if (const json::value* member = fields.find("ports")) {
        auto ports = parse_ports(*member);
        if (!ports) return fail(std::move(ports.error()));
        status.ports = std::move(*ports);
    }
    return {};
}

}  // namespace

std::string VmRecord::to_json() const {
    json::object object;
    object["format"] = record_format;
    object["id"] = id;
    object["name"] = name.text();
    object["cpus"] = cpus;
    object["mem_mib"] = memory.count;
    object["disk_mib"] = disk.count;
    object["labels"] = json::value_from(labels);
    object["env"] = json::value_from(env);
    object["image"] = image;
    object["network"] = network_settings_to_file(network);
    put_resources(object, resources);
    object["machine_id"] = machine_id;
    object["created_unix"] = created_unix;
    object["vmm"] = vmm;
    object["warnings"] = json::value_from(warnings);
    return json::serialize(object);
}

Result<VmRecord> VmRecord::from_json(std::string_view text) {
    auto value = wire::parse_json(text);
    if (!value) return fail(Errc::corrupt, "vm.json: " + value.error().what);
    std::int64_t format = 0;
    std::string name_text;
    wire::FieldReader fields{*value};
    fields.required("format", format);
    fields.required("name", name_text);
    if (auto read = fields.done(); !read) return fail(Errc::corrupt, "vm.json: " + read.error().what);
    if (format != record_format)
        return fail(Errc::corrupt, fmt::format("vm.json: unknown format {}", format));
    auto name = VmName::parse(name_text);
    if (!name) return fail(Errc::corrupt, "vm.json: " + name.error().what);
    VmRecord record{.name = std::move(*name)};
    fields.required("id", record.id);
    fields.required("cpus", record.cpus);
    fields.required("mem_mib", record.memory.count);
    fields.required("disk_mib", record.disk.count);
    fields.required("labels", record.labels);
    fields.required("env", record.env);
    fields.required("image", record.image);
    fields.required("machine_id", record.machine_id);
    fields.required("created_unix", record.created_unix);
    fields.required("vmm", record.vmm);
    fields.optional("warnings", record.warnings);
    if (auto read = fields.done(); !read) return fail(Errc::corrupt, "vm.json: " + read.error().what);
    const json::value* network = fields.find("network");
    if (network == nullptr) return fail(Errc::corrupt, "vm.json: no network settings");
    auto settings = network_settings_from_file(*network);
    if (!settings) return fail(std::move(settings.error()).at("vm.json"));
    record.network = std::move(*settings);
    auto resources = read_resources(*value);
    if (!resources) return fail(std::move(resources.error()).at("vm.json"));
    record.resources = *resources;
    return record;
}

store::VmRuntime VmStatus::to_row() const {
    store::VmRuntime row;
    row.state = name_of(state);
    row.reason = reason;
    row.start_kind = start_kind;
    row.started_unix = started_unix;
    if (process) {
        row.pid = process->pid;
        row.pid_start_time = static_cast<std::int64_t>(process->start_time);
    }
    if (slot) row.network = json::serialize(slot_json(*slot));
    row.lineage = lineage_text(lineage);
    row.policy = policy_text(*this);
    row.vmm = vmm;
    return row;
}

Result<VmStatus> VmStatus::from_row(const store::VmRuntime& row) {
    VmStatus status;
    const auto state = parse_state(row.state);
    if (!state) return fail(Errc::corrupt, fmt::format("unknown state '{}'", row.state));
    status.state = *state;
    status.reason = row.reason;
    status.start_kind = row.start_kind;
    status.started_unix = row.started_unix;
    if (row.pid) {
        status.process =
            ProcessIdentity{static_cast<pid_t>(*row.pid), static_cast<std::uint64_t>(row.pid_start_time)};
    }
    if (!row.network.empty()) {
        auto value = wire::parse_json(row.network);
        if (!value) return fail(Errc::corrupt, "network slot: " + value.error().what);
        auto slot = parse_slot(*value);
        if (!slot) return fail(std::move(slot.error()));
        status.slot = std::move(*slot);
    }
    auto lineage = parse_lineage(row.lineage);
    if (!lineage) return fail(std::move(lineage.error()));
    status.lineage = std::move(*lineage);
    if (auto policy = parse_policy(row.policy, status); !policy) return fail(std::move(policy.error()));
    status.vmm = row.vmm;
    return status;
}

store::VmRow to_row(const VmRecord& record, const VmStatus& status) {
    return {record.id, record.name.text(), record.created_unix, record.to_json(), status.to_row()};
}

std::string IntentData::to_json() const {
    json::object object;
    object["vm_id"] = vm_id;
    if (process) {
        object["pid"] = process->pid;
        object["pid_start_time"] = process->start_time;
    }
    if (!step.empty()) object["step"] = step;
    if (!checkpoint.empty()) object["checkpoint"] = checkpoint;
    if (!clones.empty()) object["clones"] = json::value_from(clones);
    return json::serialize(object);
}

IntentData IntentData::from_json(std::string_view text) {
    IntentData data;
    auto value = wire::parse_json(text);
    if (!value) return data;
    ProcessIdentity process;
    wire::FieldReader fields{*value};
    fields.optional("vm_id", data.vm_id);
    fields.optional("pid", process.pid);
    fields.optional("pid_start_time", process.start_time);
    fields.optional("step", data.step);
    fields.optional("checkpoint", data.checkpoint);
    fields.optional("clones", data.clones);
    if (fields.done() && process.pid > 0) data.process = process;
    return data;
}

// Not synced: after a power cut the VM's process is gone as well, and an fsync here would wait for the
// whole disk image that was just cloned.
Result<void> write_record(const fs::path& vm_directory, const VmRecord& record) {
    const fs::path temporary = vm_directory / "vm.json.new";
    const fs::path final_name = vm_directory / record_file;
    auto file = open_file(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW);
    if (!file) return fail(std::move(file.error()));
    if (auto written = write_all(*file, record.to_json()); !written) return written;
    if (::rename(temporary.c_str(), final_name.c_str()) != 0)
        return fail_errno(errno, "put vm.json in place");
    return {};
}

Result<VmRecord> read_record(const fs::path& vm_directory) {
    auto text = read_file(vm_directory / record_file, largest_record);
    if (!text) return fail(std::move(text.error()));
    return VmRecord::from_json(*text);
}

std::string utc_text(std::int64_t unix_seconds) {
    const std::time_t seconds = unix_seconds;
    std::tm parts{};
    ::gmtime_r(&seconds, &parts);
    return fmt::format("{:%Y-%m-%d %H:%M:%S}", parts);
}

}  // namespace noid::vm
