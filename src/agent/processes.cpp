#include "agent/processes.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <string_view>

#include "base/fd.hpp"

namespace noid::agent {
namespace {

template <class Each>
void for_each_process(Each each) {
    const std::unique_ptr<DIR, int (*)(DIR*)> directory{::opendir("/proc"), &::closedir};
    if (!directory) return;
    while (const dirent* entry = ::readdir(directory.get())) {
        pid_t pid = 0;
        const char* const end = entry->d_name + std::strlen(entry->d_name);
        const auto [rest, error] = std::from_chars(entry->d_name, end, pid);
        if (error == std::errc{} && rest == end) each(pid);
    }
}

struct Status {
    char state = 0;
    pid_t session = 0;
};

std::optional<Status> status_of(pid_t pid) {
    std::array<char, 64> path{};
    std::snprintf(path.data(), path.size(), "/proc/%d/stat", pid);
    const Fd file{::open(path.data(), O_RDONLY | O_CLOEXEC)};
    std::array<char, 1024> text{};
    const ssize_t size = file ? ::read(file.get(), text.data(), text.size() - 1) : -1;
    if (size <= 0) return std::nullopt;
    // "PID (NAME) STATE PPID PGRP SESSION ...": the name may hold anything, also ')'.
    const std::string_view line{text.data(), static_cast<std::size_t>(size)};
    const auto name_end = line.rfind(')');
    Status status;
    if (name_end == std::string_view::npos ||
        std::sscanf(text.data() + name_end + 1, " %c %*d %*d %d", &status.state, &status.session) != 2)
        return std::nullopt;
    return status;
}

}  // namespace

void kill_process_session(pid_t leader) noexcept {
    // A process that forks while it is looked for may hide its child from one pass.
    for (int pass = 0; pass < 4; ++pass) {
        bool found = false;
        for_each_process([&](pid_t pid) {
            const auto status = status_of(pid);
            if (!status || status->session != leader || status->state == 'Z') return;
            found |= ::kill(pid, SIGKILL) == 0;
        });
        if (!found) return;
    }
}

std::uint32_t count_processes() noexcept {
    std::uint32_t count = 0;
    for_each_process([&](pid_t) { ++count; });
    return count;
}

}  // namespace noid::agent
