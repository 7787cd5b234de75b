#include "vm/usage.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "base/file.hpp"

namespace noid::vm {

namespace {

std::optional<std::uint64_t> proportional_set_size(const Fd& smaps_rollup) {
    std::array<char, 4096> text;
    const ssize_t got = ::pread(smaps_rollup.get(), text.data(), text.size(), 0);
    if (got <= 0) return std::nullopt;
    std::istringstream lines{std::string{text.data(), static_cast<std::size_t>(got)}};
    for (std::string line; std::getline(lines, line);) {
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

using Interval = std::pair<std::uint64_t, std::uint64_t>;  // first byte and the one after the last

// What a file occupies alone; what it may share is added to `shared`, by its place on the device. Nothing
// is written out to answer: what has no place yet is counted as the file's own. False: the file system
// does not tell.
bool look_at_extents(const Fd& file, std::uint64_t& alone, std::vector<Interval>& shared) {
    constexpr std::size_t at_once = 256;
    std::vector<std::uint64_t> request((sizeof(fiemap) + at_once * sizeof(fiemap_extent)) / 8 + 1);
    auto* map = reinterpret_cast<fiemap*>(request.data());
    std::uint64_t begin = 0;
    while (true) {
        *map = fiemap{};
        map->fm_start = begin;
        map->fm_length = FIEMAP_MAX_OFFSET - begin;
        map->fm_extent_count = at_once;
        if (::ioctl(file.get(), FS_IOC_FIEMAP, map) != 0) return false;
        if (map->fm_mapped_extents == 0) return true;
        for (std::uint32_t i = 0; i < map->fm_mapped_extents; ++i) {
            const fiemap_extent& extent = map->fm_extents[i];
            begin = extent.fe_logical + extent.fe_length;
            if ((extent.fe_flags & FIEMAP_EXTENT_SHARED) != 0) {
                shared.emplace_back(extent.fe_physical, extent.fe_physical + extent.fe_length);
            } else {
                alone += extent.fe_length;
            }
            if ((extent.fe_flags & FIEMAP_EXTENT_LAST) != 0) return true;
        }
    }
}

std::uint64_t covered(std::vector<Interval> intervals) {
    std::ranges::sort(intervals);
    std::uint64_t bytes = 0;
    std::uint64_t end = 0;
    for (const auto& [from, to] : intervals) {
        if (to <= end) continue;
        bytes += to - std::max(from, end);
        end = to;
    }
    return bytes;
}

}  // namespace

ProcessUsage usage_of(vmm::Warden& warden, const ProcessIdentity& process) {
    ProcessUsage usage;
    if (const auto files = warden.files_of(process))
        usage.memory = proportional_set_size(files->smaps_rollup);
    const auto cpu_seconds = cpu_time(process.pid);
    if (const auto now = identify(process.pid); now && *now == process) usage.cpu_seconds = cpu_seconds;
    return usage;
}

std::optional<std::uint64_t> space_taken(const std::filesystem::path& directory) {
    namespace fs = std::filesystem;
    std::error_code failed;
    std::uint64_t bytes = 0;
    std::vector<Interval> shared;
    std::set<std::pair<dev_t, ino_t>> seen;
    for (fs::recursive_directory_iterator entry{directory, failed}, end; !failed && entry != end;
         entry.increment(failed)) {
        struct stat status {};
        if (::lstat(entry->path().c_str(), &status) != 0) continue;  // on its way out
        if (!seen.emplace(status.st_dev, status.st_ino).second) continue;
        const auto file = S_ISREG(status.st_mode) ? open_file(entry->path(), O_RDONLY | O_NOFOLLOW)
                                                  : Result<Fd>{fail(Errc::invalid, "not a file")};
        std::uint64_t alone = 0;
        std::vector<Interval> extents;
        if (file && look_at_extents(*file, alone, extents)) {
            bytes += alone;
            shared.insert(shared.end(), extents.begin(), extents.end());
        } else {
            bytes += static_cast<std::uint64_t>(status.st_blocks) * 512;
        }
    }
    if (failed) return std::nullopt;
    return bytes + covered(std::move(shared));
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
