#include "wire/resources.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "wire/names.hpp"

namespace noid::wire {

namespace {

template <class T, class Number>
struct Member {
    std::string_view name;
    Number T::*number;
};
using Some = std::optional<std::uint64_t>;

constexpr std::array changes{
    Member<ChangeVm, Some>{"balloon_mib", &ChangeVm::balloon_mib},
    Member<ChangeVm, Some>{"disk_bytes_per_second", &ChangeVm::disk_bytes_per_second},
    Member<ChangeVm, Some>{"disk_ops_per_second", &ChangeVm::disk_ops_per_second},
};
constexpr std::array memory_numbers{
    Member<GuestMemory, Some>{"total_bytes", &GuestMemory::total_bytes},
    Member<GuestMemory, Some>{"free_bytes", &GuestMemory::free_bytes},
    Member<GuestMemory, Some>{"available_bytes", &GuestMemory::available_bytes},
    Member<GuestMemory, Some>{"cached_bytes", &GuestMemory::cached_bytes},
    Member<GuestMemory, Some>{"swapped_in_bytes", &GuestMemory::swapped_in_bytes},
    Member<GuestMemory, Some>{"swapped_out_bytes", &GuestMemory::swapped_out_bytes},
    Member<GuestMemory, Some>{"major_faults", &GuestMemory::major_faults},
    Member<GuestMemory, Some>{"minor_faults", &GuestMemory::minor_faults},
};
constexpr std::array disk_counters{
    Member<DeviceCounters, std::uint64_t>{"disk_read_bytes", &DeviceCounters::disk_read_bytes},
    Member<DeviceCounters, std::uint64_t>{"disk_written_bytes", &DeviceCounters::disk_written_bytes},
    Member<DeviceCounters, std::uint64_t>{"disk_reads", &DeviceCounters::disk_reads},
    Member<DeviceCounters, std::uint64_t>{"disk_writes", &DeviceCounters::disk_writes},
    Member<DeviceCounters, std::uint64_t>{"disk_flushes", &DeviceCounters::disk_flushes},
    Member<DeviceCounters, std::uint64_t>{"disk_errors", &DeviceCounters::disk_errors},
};
constexpr std::array other_counters{
    Member<DeviceCounters, Some>{"disk_throttled", &DeviceCounters::disk_throttled},
    Member<DeviceCounters, Some>{"network_received_bytes", &DeviceCounters::network_received_bytes},
    Member<DeviceCounters, Some>{"network_sent_bytes", &DeviceCounters::network_sent_bytes},
    Member<DeviceCounters, Some>{"vsock_received_bytes", &DeviceCounters::vsock_received_bytes},
    Member<DeviceCounters, Some>{"vsock_sent_bytes", &DeviceCounters::vsock_sent_bytes},
    Member<DeviceCounters, Some>{"vcpu_exits", &DeviceCounters::vcpu_exits},
    Member<DeviceCounters, Some>{"vcpu_errors", &DeviceCounters::vcpu_errors},
    Member<DeviceCounters, Some>{"seccomp_faults", &DeviceCounters::seccomp_faults},
};

template <class Members, class T>
void read(FieldReader& fields, const Members& members, T& value) {
    for (const auto& [name, number] : members) fields.optional(name, value.*number);
}

template <class Members, class T>
void write(json::object& out, const Members& members, const T& value) {
    for (const auto& [name, number] : members) {
        if constexpr (std::is_same_v<std::remove_cvref_t<decltype(value.*number)>, Some>) {
            if (value.*number) out.emplace(name, *(value.*number));
        } else {
            out.emplace(name, value.*number);
        }
    }
}

}  // namespace

Result<ChangeVm> ChangeVm::from_json(const json::value& value) {
    ChangeVm change;
    FieldReader fields{value};
    if (value.is_object()) {
        for (const auto& member : value.get_object()) {
            const bool known = std::ranges::any_of(
                changes, [&](const auto& one) { return one.name == std::string_view{member.key()}; });
            if (!known) fields.wrong("field '" + clipped(member.key()) + "' is unknown");
        }
    }
    read(fields, changes, change);
    if (auto done = fields.done(); !done) return fail(std::move(done).error());
    return change;
}

json::object to_json(const ChangeVm& change) {
    json::object out;
    write(out, changes, change);
    return out;
}

Result<GuestMemory> GuestMemory::from_json(const json::value& value) {
    GuestMemory memory;
    FieldReader fields{value};
    fields.required("balloon_bytes", memory.balloon_bytes);
    read(fields, memory_numbers, memory);
    if (auto done = fields.done(); !done) return fail(std::move(done).error());
    return memory;
}

json::object to_json(const GuestMemory& memory) {
    json::object out;
    out.emplace("balloon_bytes", memory.balloon_bytes);
    write(out, memory_numbers, memory);
    return out;
}

Result<DeviceCounters> DeviceCounters::from_json(const json::value& value) {
    DeviceCounters counters;
    FieldReader fields{value};
    read(fields, disk_counters, counters);
    read(fields, other_counters, counters);
    if (auto done = fields.done(); !done) return fail(std::move(done).error());
    return counters;
}

json::object to_json(const DeviceCounters& counters) {
    json::object out;
    write(out, disk_counters, counters);
    write(out, other_counters, counters);
    return out;
}

}  // namespace noid::wire
