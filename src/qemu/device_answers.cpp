#include "qemu/device_answers.hpp"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>

#include "qemu/command_line.hpp"

namespace noid::qemu {

namespace json = boost::json;

namespace {

// A number of an object; none when there is none, or no plausible one.
std::optional<std::uint64_t> number(const json::value& object, std::string_view key) {
    const auto* fields = object.if_object();
    const auto* value = fields ? fields->if_contains(key) : nullptr;
    if (value == nullptr) return std::nullopt;
    boost::system::error_code wrong;
    const auto count = value->to_number<std::uint64_t>(wrong);
    // What the guest has not told is all ones.
    if (wrong || count == std::numeric_limits<std::uint64_t>::max()) return std::nullopt;
    return count;
}

const json::value* member(const json::value& object, std::string_view key) {
    const auto* fields = object.if_object();
    return fields ? fields->if_contains(key) : nullptr;
}

bool is_disk(const json::value& entry) {
    const auto* device = member(entry, "qdev");
    const auto* name = device ? device->if_string() : nullptr;
    // By name, or by the path of one that has a name.
    return name && (*name == disk_device || std::string_view{*name}.find(std::string{"/"} + disk_device +
                                                                         "/") != std::string_view::npos);
}

}  // namespace

Result<vmm::MemoryNumbers> read_memory_numbers(const json::value& balloon, const json::value& statistics,
                                               MiB memory) {
    const auto actual = number(balloon, "actual");
    if (!actual || *actual > memory.bytes())
        return fail(Errc::corrupt, "QEMU does not tell how large the balloon is");
    vmm::MemoryNumbers numbers;
    numbers.balloon = memory.bytes() - *actual;
    const auto* told = member(statistics, "stats");
    if (told == nullptr) return fail(Errc::corrupt, "QEMU does not tell about the guest's memory");
    numbers.total = number(*told, "stat-total-memory");
    numbers.free = number(*told, "stat-free-memory");
    numbers.available = number(*told, "stat-available-memory");
    numbers.caches = number(*told, "stat-disk-caches");
    numbers.swapped_in = number(*told, "stat-swap-in");
    numbers.swapped_out = number(*told, "stat-swap-out");
    numbers.major_faults = number(*told, "stat-major-faults");
    numbers.minor_faults = number(*told, "stat-minor-faults");
    return numbers;
}

Result<vmm::DeviceNumbers> read_device_numbers(const json::value& statistics) {
    const auto* devices = statistics.if_array();
    for (const json::value& device : devices ? *devices : json::array{}) {
        const auto* counted = member(device, "stats");
        if (!is_disk(device) || counted == nullptr) continue;
        const auto count = [&](std::string_view key) { return number(*counted, key).value_or(0); };
        vmm::DeviceNumbers numbers;
        numbers.disk_read_bytes = count("rd_bytes");
        numbers.disk_written_bytes = count("wr_bytes");
        numbers.disk_reads = count("rd_operations");
        numbers.disk_writes = count("wr_operations");
        numbers.disk_flushes = count("flush_operations");
        numbers.disk_errors =
            count("failed_rd_operations") + count("failed_wr_operations") + count("failed_flush_operations");
        return numbers;
    }
    return fail(Errc::corrupt, "QEMU does not tell about the machine's disk");
}

}  // namespace noid::qemu
