#include "agent/statistics.hpp"

#include <sys/statvfs.h>
#include <sys/utsname.h>

#include <array>
#include <charconv>
#include <cstdio>
#include <string>
#include <string_view>

#include "agent/processes.hpp"
#include "agent/text_file.hpp"

namespace noid::agent {
namespace {

constexpr std::size_t max_file = 64 * 1024;

std::string read_or_empty(const char* path) {
    return read_text_file(path, max_file).value_or("");
}

// The line that begins with `key`, without it.
std::string_view line_after(std::string_view text, std::string_view key) {
    while (!text.empty()) {
        const std::string_view line = text.substr(0, text.find('\n'));
        if (line.starts_with(key)) return line.substr(key.size());
        text.remove_prefix(std::min(text.size(), line.size() + 1));
    }
    return {};
}

std::string_view trimmed(std::string_view text, std::string_view unwanted) {
    const auto first = text.find_first_not_of(unwanted);
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of(unwanted) - first + 1);
}

std::uint64_t number(std::string_view text) {
    text = trimmed(text, " ");
    std::uint64_t value = 0;
    std::from_chars(text.data(), text.data() + text.size(), value);
    return value;
}

void read_cpu(proto::GuestStats& stats) {
    // user nice system idle iowait irq softirq steal; guest time is part of user.
    std::array<unsigned long long, 8> ticks{};
    const std::string line{line_after(read_or_empty("/proc/stat"), "cpu ")};
    std::sscanf(line.c_str(), "%llu %llu %llu %llu %llu %llu %llu %llu", &ticks[0], &ticks[1], &ticks[2],
                &ticks[3], &ticks[4], &ticks[5], &ticks[6], &ticks[7]);
    for (const auto value : ticks) stats.cpu_total_ticks += value;
    stats.cpu_busy_ticks = stats.cpu_total_ticks - ticks[3] - ticks[4];
}

}  // namespace

proto::GuestStats read_guest_stats() {
    proto::GuestStats stats;
    const std::string memory = read_or_empty("/proc/meminfo");
    stats.memory_total = number(line_after(memory, "MemTotal:")) * 1024;
    stats.memory_available = number(line_after(memory, "MemAvailable:")) * 1024;
    struct statvfs disk {};
    if (::statvfs("/", &disk) == 0) {
        stats.disk_total = disk.f_blocks * disk.f_frsize;
        stats.disk_free = disk.f_bavail * disk.f_frsize;
    }
    read_cpu(stats);
    std::sscanf(read_or_empty("/proc/loadavg").c_str(), "%lf", &stats.load_1);
    stats.uptime_s = number(read_or_empty("/proc/uptime"));
    stats.processes = count_processes();
    return stats;
}

proto::AgentInfo read_agent_info() {
    proto::AgentInfo info;
    info.version = NOID_VERSION;
    info.protocol = proto::protocol_version;
    info.boot_id = trimmed(read_or_empty("/proc/sys/kernel/random/boot_id"), " \n").substr(0, 64);
    utsname name{};
    if (::uname(&name) == 0) info.kernel = name.release;
    info.os = trimmed(line_after(read_or_empty("/etc/os-release"), "PRETTY_NAME="), "\"' ").substr(0, 256);
    return info;
}

}  // namespace noid::agent
