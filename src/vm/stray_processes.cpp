#include "vm/stray_processes.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <charconv>

#include "launcher/process.hpp"
#include "vm/data_directory.hpp"

namespace noid::vm {

WorkingDirectories WorkingDirectories::scan() {
    WorkingDirectories found;
    auto entries = names_in("/proc");
    if (!entries) return found;
    for (const std::string& entry : *entries) {
        pid_t pid = 0;
        const auto [end, error] = std::from_chars(entry.data(), entry.data() + entry.size(), pid);
        if (error != std::errc{} || end != entry.data() + entry.size() || pid == ::getpid()) continue;
        // Identity first: a pid that changes hands in between is then not found under it.
        auto identity = identify(pid);
        struct stat directory {};
        if (!identity || ::stat(fmt::format("/proc/{}/cwd", pid).c_str(), &directory) != 0) continue;
        found.processes_[{directory.st_dev, directory.st_ino}].push_back(*identity);
    }
    return found;
}

std::vector<ProcessIdentity> WorkingDirectories::in(const std::filesystem::path& directory) const {
    struct stat status {};
    if (::stat(directory.c_str(), &status) != 0) return {};
    const auto found = processes_.find({status.st_dev, status.st_ino});
    return found == processes_.end() ? std::vector<ProcessIdentity>{} : found->second;
}

Awaitable<Result<void>> end_process(ProcessIdentity identity) {
    using namespace std::chrono_literals;
    auto process = launcher::Process::adopt(co_await asio::this_coro::executor, identity);
    if (!process && process.error().code == Errc::not_found) co_return Result<void>{};
    if (!process) co_return fail(std::move(process.error()));
    auto stopped = co_await process->stop(0ms);
    if (!stopped) co_return fail(std::move(stopped.error()));
    co_return Result<void>{};
}

}  // namespace noid::vm
