#include "vm/stray_processes.hpp"

#include <sys/stat.h>

#include <utility>

#include "launcher/process.hpp"

namespace noid::vm {

Result<WorkingDirectories> WorkingDirectories::scan(vmm::Warden& warden) {
    WorkingDirectories found;
    auto processes = warden.processes();
    if (!processes) return fail(std::move(processes.error()).at("list the VMMs that run"));
    for (const auto& each : *processes) found.processes_[{each.device, each.inode}].push_back(each.identity);
    return found;
}

std::vector<ProcessIdentity> WorkingDirectories::in(const std::filesystem::path& directory) const {
    struct stat status {};
    if (::stat(directory.c_str(), &status) != 0) return {};
    const auto found = processes_.find({status.st_dev, status.st_ino});
    return found == processes_.end() ? std::vector<ProcessIdentity>{} : found->second;
}

Result<std::vector<ProcessIdentity>> processes_in(vmm::Warden& warden,
                                                  const std::filesystem::path& directory) {
    const auto found = WorkingDirectories::scan(warden);
    if (!found) return fail(found.error());
    return found->in(directory);
}

Awaitable<Result<void>> end_process(vmm::Warden& warden, asio::thread_pool& pool, ProcessIdentity identity,
                                    std::filesystem::path directory) {
    using namespace std::chrono_literals;
    const auto adopt = [&] { return warden.adopt(identity, directory); };
    auto adopted = co_await on_pool(pool, adopt);
    if (!adopted && adopted.error().code == Errc::not_found) co_return Result<void>{};
    if (!adopted) co_return fail(std::move(adopted.error()));
    launcher::Process process{co_await asio::this_coro::executor, std::move(*adopted)};
    auto stopped = co_await process.stop(0ms);
    if (!stopped) co_return fail(std::move(stopped.error()));
    co_return Result<void>{};
}

}  // namespace noid::vm
