#include "wire/vm.hpp"

#include <charconv>
#include <utility>

#include "wire/names.hpp"

namespace noid::wire {

namespace {

template <class T>
void put(json::object& out, std::string_view key, const std::optional<T>& value) {
    if (value) out.emplace(key, *value);
}

json::object labels_to_json(const std::map<std::string, std::string>& labels,
                            const json::storage_ptr& storage) {
    json::object out(storage);
    for (const auto& [key, value] : labels) out.emplace(key, value);
    return out;
}

Result<std::uint16_t> parse_port(std::string_view text) {
    std::uint16_t port = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
    if (error != std::errc{} || end != text.data() + text.size() || port == 0)
        return fail(Errc::invalid, "port must be a number from 1 to 65535, got '" + clipped(text, 32) + "'");
    return port;
}

// Two spellings of one number: either may be given, both when they agree.
template <class T>
void read_alias(FieldReader& fields, std::string_view key, std::string_view alias, T& out) {
    fields.optional(key, out);
    if (fields.find(alias) == nullptr) return;
    T other{};
    fields.optional(alias, other);
    if (fields.find(key) != nullptr && other != out) {
        fields.wrong("fields '" + std::string{key} + "' and '" + std::string{alias} +
                     "' contradict each other");
    }
    out = other;
}

template <class T>
void read_object(FieldReader& fields, std::string_view key, std::optional<T>& out) {
    const json::value* member = fields.find(key);
    if (member == nullptr) return;
    auto parsed = T::from_json(*member);
    if (!parsed) return fields.wrong("field '" + std::string{key} + "': " + parsed.error().what);
    out = std::move(*parsed);
}

void read_ports(FieldReader& fields, std::vector<PortMapping>& out) {
    std::vector<std::string> texts;
    fields.optional("ports", texts);
    for (const std::string& text : texts) {
        auto mapping = PortMapping::parse(text);
        if (!mapping) return fields.wrong("field 'ports': " + mapping.error().what);
        out.push_back(*mapping);
    }
}

}  // namespace

Result<VmInfo> VmInfo::from_json(const json::value& value) {
    VmInfo vm;
    FieldReader fields{value};
    fields.required("name", vm.name);
    fields.required("state", vm.state);
    fields.required("cpus", vm.cpus);
    fields.required("mem_mib", vm.mem_mib);
    fields.required("created_at", vm.created_at);
    fields.optional("disk_mib", vm.disk_mib);
    fields.optional("labels", vm.labels);
    fields.optional("image", vm.image);
    fields.optional("address", vm.address);
    fields.optional("vmm", vm.vmm);
    fields.optional("start", vm.start);
    fields.optional("origin", vm.origin);
    fields.optional("reason", vm.reason);
    fields.optional("warnings", vm.warnings);
    fields.optional("uptime_s", vm.uptime_s);
    fields.optional("disk_used_bytes", vm.disk_used_bytes);
    fields.optional("memory_used_bytes", vm.memory_used_bytes);
    fields.optional("cpu_seconds", vm.cpu_seconds);
    fields.optional("guest_memory_available_bytes", vm.guest_memory_available_bytes);
    fields.optional("guest_disk_free_bytes", vm.guest_disk_free_bytes);
    fields.optional("agent_version", vm.agent_version);
    fields.optional("guest_os", vm.guest_os);
    read_object(fields, "traffic", vm.traffic);
    fields.optional("balloon_mib", vm.balloon_mib);
    fields.optional("disk_bytes_per_second", vm.disk_bytes_per_second);
    fields.optional("disk_ops_per_second", vm.disk_ops_per_second);
    read_object(fields, "guest_memory", vm.guest_memory);
    read_object(fields, "devices", vm.devices);
    if (auto read = fields.done(); !read) return fail(std::move(read).error());
    return vm;
}

json::object to_json(const VmInfo& vm, json::storage_ptr storage) {
    json::object out(storage);
    out.reserve(28);
    out.emplace("name", vm.name);
    out.emplace("state", vm.state);
    out.emplace("cpus", vm.cpus);
    out.emplace("mem_mib", vm.mem_mib);
    out.emplace("created_at", vm.created_at);
    out.emplace("disk_mib", vm.disk_mib);
    out.emplace("labels", labels_to_json(vm.labels, storage));
    out.emplace("image", vm.image);
    out.emplace("address", vm.address);
    out.emplace("vmm", vm.vmm);
    out.emplace("start", vm.start);
    if (!vm.origin.empty()) out.emplace("origin", vm.origin);
    if (!vm.reason.empty()) out.emplace("reason", vm.reason);
    if (!vm.warnings.empty()) out.emplace("warnings", to_json(vm.warnings, storage));
    put(out, "uptime_s", vm.uptime_s);
    put(out, "disk_used_bytes", vm.disk_used_bytes);
    put(out, "memory_used_bytes", vm.memory_used_bytes);
    put(out, "cpu_seconds", vm.cpu_seconds);
    put(out, "guest_memory_available_bytes", vm.guest_memory_available_bytes);
    put(out, "guest_disk_free_bytes", vm.guest_disk_free_bytes);
    put(out, "agent_version", vm.agent_version);
    put(out, "guest_os", vm.guest_os);
    if (vm.traffic) out.emplace("traffic", to_json(*vm.traffic));
    put(out, "balloon_mib", vm.balloon_mib);
    put(out, "disk_bytes_per_second", vm.disk_bytes_per_second);
    put(out, "disk_ops_per_second", vm.disk_ops_per_second);
    if (vm.guest_memory) out.emplace("guest_memory", to_json(*vm.guest_memory));
    if (vm.devices) out.emplace("devices", to_json(*vm.devices));
    return out;
}

Result<PortMapping> PortMapping::parse(std::string_view text) {
    const std::size_t colon = text.find(':');
    if (colon == std::string_view::npos)
        return fail(Errc::invalid, "port mapping must be HOST:GUEST, got '" + clipped(text, 32) + "'");
    const auto host = parse_port(text.substr(0, colon));
    if (!host) return fail(host.error());
    const auto guest = parse_port(text.substr(colon + 1));
    if (!guest) return fail(guest.error());
    return PortMapping{*host, *guest};
}

Result<CreateVm> CreateVm::from_json(const json::value& value) {
    CreateVm request;
    FieldReader fields{value};
    fields.required("name", request.name);
    read_alias(fields, "cpus", "vcpus", request.cpus);
    read_alias(fields, "mem_mib", "memory", request.mem_mib);
    fields.optional("disk_mib", request.disk_mib);
    fields.optional("labels", request.labels);
    fields.optional("env", request.env);
    fields.optional("image", request.image);
    std::string network{wire::name_of(request.network)};
    fields.optional("network", network);
    if (const auto known = parse_network(network)) {
        request.network = *known;
    } else {
        fields.must_be("network", "\"none\", \"egress\" or \"open\"");
    }
    read_object(fields, "policy", request.policy);
    read_ports(fields, request.ports);
    fields.optional("disk_bytes_per_second", request.disk_bytes_per_second);
    fields.optional("disk_ops_per_second", request.disk_ops_per_second);
    fields.optional("boot", request.boot);
    fields.optional("idempotency_key", request.idempotency_key);
    if (auto read = fields.done(); !read) return fail(std::move(read).error());
    return request;
}

Result<void> CreateVm::check() const {
    if (auto checked = check_vm_name(name); !checked) return checked;
    if (cpus == 0) return fail(Errc::invalid, "cpus must be at least 1");
    if (mem_mib == 0) return fail(Errc::invalid, "mem_mib must be at least 1");
    if (mem_mib > (1U << 24)) return fail(Errc::invalid, "mem_mib must be at most 16777216");
    if (disk_mib && (*disk_mib == 0 || *disk_mib > (1U << 24)))
        return fail(Errc::invalid, "disk_mib must be from 1 to 16777216");
    if (auto checked = check_env(env); !checked) return checked;
    if (labels.size() > max_labels)
        return fail(Errc::invalid, "too many labels (" + std::to_string(labels.size()) + ", max 64)");
    for (const auto& [key, value] : labels) {
        if (key.empty() || key.size() > max_label_bytes || value.size() > max_label_bytes)
            return fail(Errc::invalid,
                        "label '" + clipped(key) + "': key must have 1 to 256 bytes, value at most 256");
    }
    if (image.size() > 256 || image.find('\0') != std::string::npos)
        return fail(Errc::invalid, "image name must have at most 256 bytes");
    if (idempotency_key.size() > 128) return fail(Errc::invalid, "idempotency key too long (max 128 bytes)");
    if (ports.size() > 64) return fail(Errc::invalid, "too many ports (max 64)");
    return {};
}

json::object to_json(const CreateVm& request, json::storage_ptr storage) {
    json::object out(storage);
    out.emplace("name", request.name);
    out.emplace("cpus", request.cpus);
    out.emplace("mem_mib", request.mem_mib);
    put(out, "disk_mib", request.disk_mib);
    if (!request.labels.empty()) out.emplace("labels", labels_to_json(request.labels, storage));
    if (!request.env.empty()) out.emplace("env", to_json(request.env, storage));
    if (!request.image.empty()) out.emplace("image", request.image);
    if (request.network != Network::open) out.emplace("network", name_of(request.network));
    if (request.policy) out.emplace("policy", to_json(*request.policy));
    if (!request.ports.empty()) {
        std::vector<std::string> texts;
        for (const PortMapping& port : request.ports)
            texts.push_back(std::to_string(port.host) + ":" + std::to_string(port.guest));
        out.emplace("ports", to_json(texts, storage));
    }
    put(out, "disk_bytes_per_second", request.disk_bytes_per_second);
    put(out, "disk_ops_per_second", request.disk_ops_per_second);
    if (request.boot) out.emplace("boot", true);
    if (!request.idempotency_key.empty()) out.emplace("idempotency_key", request.idempotency_key);
    return out;
}

}  // namespace noid::wire
