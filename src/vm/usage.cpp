#include "vm/usage.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <string>

namespace noid::vm {

namespace {

std::optional<std::uint64_t> proportional_set_size(pid_t pid) {
    std::ifstream file{fmt::format("/proc/{}/smaps_rollup", pid)};
    for (std::string line; std::getline(file, line);) {
        if (!line.starts_with("Pss:")) continue;
        std::istringstream words{line.substr(4)};
        std::uint64_t kib = 0;
        if (words >> kib) return kib * 1024;
    }
    return std::nullopt;
}

// Fields 14 and 15 of /proc/PID/stat, user and system time, counted after the command's name, which
// may hold anything and ends at the last parenthesis.
std::optional<double> cpu_time(pid_t pid) {
    std::ifstream file{fmt::format("/proc/{}/stat", pid)};
    std::string line;
    if (!std::getline(file, line)) return std::nullopt;
    const auto name_end = line.rfind(')');
    if (name_end == std::string::npos) return std::nullopt;
    std::istringstream words{line.substr(name_end + 1)};
    std::string skipped;
    for (int field = 3; field < 14; ++field) words >> skipped;
    std::uint64_t user = 0;
    std::uint64_t system = 0;
    if (!(words >> user >> system)) return std::nullopt;
    return static_cast<double>(user + system) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

}  // namespace

ProcessUsage usage_of(const ProcessIdentity& process) {
    auto now = identify(process.pid);
    if (!now || *now != process) return {};
    return {proportional_set_size(process.pid), cpu_time(process.pid)};
}

std::optional<std::uint64_t> disk_usage(const std::filesystem::path& directory) {
    std::error_code failed;
    std::uint64_t bytes = 0;
    namespace fs = std::filesystem;
    for (fs::recursive_directory_iterator entry{directory, failed}, end; !failed && entry != end;
         entry.increment(failed)) {
        struct stat status {};
        if (::lstat(entry->path().c_str(), &status) != 0) continue;
        bytes += static_cast<std::uint64_t>(status.st_blocks) * 512;
    }
    if (failed) return std::nullopt;
    return bytes;
}

}  // namespace noid::vm
