#include "launcher/cgroup.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <sstream>

#include "base/file.hpp"
#include "base/random.hpp"

namespace noid::launcher {

namespace {

constexpr std::array wanted_controllers{"cpu", "memory", "pids", "io"};
constexpr std::uint32_t cpu_period = 100'000;  // microseconds

Result<void> put(const Fd& group, const std::string& file, const std::string& value) {
    const auto opened = open_file_at(group, file, O_WRONLY);
    if (!opened) return fail(opened.error());
    if (auto done = write_all(*opened, value); !done) return fail(std::move(done.error()).at("set " + file));
    return {};
}

// Whatever of them there is to give.
void hand_down_controllers(const Fd& group) {
    for (const auto* controller : wanted_controllers) {
        // Refused where it has not got it or has processes itself; what is missing shows afterwards.
        static_cast<void>(put(group, "cgroup.subtree_control", std::string{"+"} + controller));
    }
}

std::vector<std::string> words_of(const std::string& text) {
    std::istringstream words{text};
    std::vector<std::string> list;
    for (std::string word; words >> word;) list.push_back(std::move(word));
    return list;
}

Result<Fd> open_group(const Fd& parent, const std::string& name) {
    return open_file_at(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
}

}  // namespace

Cgroup::~Cgroup() {
    // Busy while somebody is in it: then the next to open the directory finds it.
    if (directory_) ::unlinkat(parent_.get(), name_.c_str(), AT_REMOVEDIR);
}

Result<Fd> Cgroup::descriptor() const {
    Fd copy{::fcntl(directory_.get(), F_DUPFD_CLOEXEC, 0)};
    if (!copy) return fail_errno(errno, "cannot copy a descriptor");
    return copy;
}

Result<std::filesystem::path> Cgroups::usual_directory() {
    const auto mounts = read_file("/proc/self/mounts", 4 << 20);
    if (!mounts) return fail(mounts.error());
    std::istringstream lines{*mounts};
    for (std::string line; std::getline(lines, line);) {
        std::istringstream fields{line};
        std::string source;
        std::string place;
        std::string type;
        fields >> source >> place >> type;
        if (type == "cgroup2") return std::filesystem::path{place} / "noid";
    }
    return fail(Errc::unsupported, "no cgroup v2 hierarchy is mounted");
}

Result<Cgroups> Cgroups::open(const std::filesystem::path& directory) {
    auto parent = open_directory(directory.parent_path());
    if (!parent) return fail(std::move(parent.error()));
    struct statfs kind {};
    if (::fstatfs(parent->get(), &kind) != 0) return fail_errno(errno, "cannot look at the cgroups");
    if (kind.f_type != CGROUP2_SUPER_MAGIC)
        return fail(Errc::unsupported, directory.parent_path().string() + " is not cgroup v2");
    if (::mkdirat(parent->get(), directory.filename().c_str(), 0755) != 0 && errno != EEXIST)
        return fail_errno(errno, "cannot make the cgroup " + directory.string());
    Cgroups groups;
    auto opened = open_group(*parent, directory.filename());
    if (!opened) return fail(std::move(opened.error()));
    groups.directory_ = std::move(*opened);
    hand_down_controllers(*parent);
    hand_down_controllers(groups.directory_);
    const auto given = read_file_at(groups.directory_, "cgroup.subtree_control", 4096);
    if (!given) return fail(given.error());
    const auto all = words_of(*given);
    for (const auto* controller : wanted_controllers)
        (std::ranges::find(all, controller) != all.end() ? groups.controllers_ : groups.missing_)
            .emplace_back(controller);
    groups.sweep();
    return groups;
}

// What a server that crashed has left. A group is locked as long as its server lives, and making and locking
// it is one step for everybody who holds the directory's lock.
void Cgroups::sweep() const {
    Fd list{::openat(directory_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (!list || ::flock(list.get(), LOCK_EX) != 0) return;
    std::error_code failed;
    const auto path = fmt::format("/proc/self/fd/{}", list.get());
    for (std::filesystem::directory_iterator entry{path, failed}, end; !failed && entry != end;
         entry.increment(failed)) {
        if (!entry->is_directory(failed)) continue;
        const auto name = entry->path().filename().string();
        const auto group = open_group(directory_, name);
        if (group && ::flock(group->get(), LOCK_EX | LOCK_NB) == 0)
            ::unlinkat(directory_.get(), name.c_str(), AT_REMOVEDIR);
    }
}

Result<Cgroup> Cgroups::make(const std::string& name, const CgroupLimits& limits) const {
    if (name.empty() || name.find('/') != std::string::npos || name.starts_with("cgroup."))
        return fail(Errc::invalid, "no name for a cgroup: " + name);
    Fd parent{::fcntl(directory_.get(), F_DUPFD_CLOEXEC, 0)};
    // A lock belongs to an opening of the directory; this one's end lets go of it.
    const Fd lock{::openat(directory_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (!parent || !lock || ::flock(lock.get(), LOCK_SH) != 0)
        return fail_errno(errno, "cannot lock the cgroups");
    // Another of that name may not have come to its end yet.
    const auto own_name = name + "." + random_hex(4);
    if (::mkdirat(directory_.get(), own_name.c_str(), 0755) != 0)
        return fail_errno(errno, "cannot make the cgroup " + own_name);
    auto directory = open_group(directory_, own_name);
    if (!directory) return fail(std::move(directory.error()));
    Cgroup group{std::move(parent), std::move(*directory), own_name};
    if (::flock(group.directory_.get(), LOCK_SH) != 0) return fail_errno(errno, "cannot lock the cgroup");
    if (auto done = limit(group.directory_, limits); !done)
        return fail(std::move(done.error()).at("limit the cgroup " + own_name));
    return group;
}

std::optional<Cgroup> Cgroups::of_process(pid_t process) const {
    const auto text = read_file(fmt::format("/proc/{}/cgroup", process), 64 * 1024);
    const auto at = text ? text->find("0::/") : std::string::npos;
    if (at == std::string::npos) return std::nullopt;
    const auto path = text->substr(at, text->find('\n', at) - at);
    const auto name = path.substr(path.rfind('/') + 1);
    if (name.empty()) return std::nullopt;
    auto directory = open_group(directory_, name);
    if (!directory || ::flock(directory->get(), LOCK_SH | LOCK_NB) != 0) return std::nullopt;
    // Elsewhere a group may have the same name.
    const auto members = read_file_at(*directory, "cgroup.procs", 64 * 1024);
    const auto numbers = members ? words_of(*members) : std::vector<std::string>{};
    if (std::ranges::find(numbers, std::to_string(process)) == numbers.end()) return std::nullopt;
    Fd parent{::fcntl(directory_.get(), F_DUPFD_CLOEXEC, 0)};
    if (!parent) return std::nullopt;
    return Cgroup{std::move(parent), std::move(*directory), name};
}

bool Cgroups::has(std::string_view controller) const {
    return std::ranges::find(controllers_, controller) != controllers_.end();
}

Result<void> Cgroups::limit(const Fd& group, const CgroupLimits& limits) const {
    struct Setting {
        std::string_view controller;
        std::string file;
        std::string value;
        bool always_there = true;
    };
    const std::array settings{
        Setting{"memory", "memory.max", std::to_string(limits.memory)},
        Setting{"memory", "memory.swap.max", std::to_string(limits.memory), false},  // no swap, no file
        Setting{"memory", "memory.oom.group", "1"},
        Setting{"cpu", "cpu.max", fmt::format("{} {}", cpu_period / 100 * limits.cpu_percent, cpu_period)},
        Setting{"pids", "pids.max", std::to_string(limits.tasks)},
    };
    for (const auto& [controller, file, value, always_there] : settings) {
        if (!has(controller)) continue;
        auto done = put(group, file, value);
        if (!done && (always_there || done.error().code != Errc::not_found)) return done;
    }
    return {};
}

}  // namespace noid::launcher
