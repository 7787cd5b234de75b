#include "vm/stray_processes.hpp"

#include <sys/stat.h>

#include <utility>

#include "launcher/process.hpp"
#include "vm/data_directory.hpp"

namespace noid::vm {

namespace fs = std::filesystem;

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

namespace {

// Wherever a VMM may work, remains of VMs and VMs that are kept ready among them.
Result<std::vector<fs::path>> working_directories(const DataDirectory& directory) {
    std::vector<fs::path> parents{directory.warm()};
    const auto users = names_in(directory.users());
    if (!users) return fail(users.error());
    for (const auto& user : *users) parents.push_back(directory.tenant(user).vms());
    std::vector<fs::path> places;
    for (const auto& parent : parents) {
        const auto names = names_in(parent);
        if (!names && names.error().code == Errc::not_found) continue;
        if (!names) return fail(names.error());
        for (const auto& name : *names) places.push_back(parent / name);
    }
    return places;
}

}  // namespace

Awaitable<Result<std::vector<std::string>>> end_all_processes(fs::path data_dir, vmm::Warden& warden,
                                                              asio::thread_pool& pool) {
    const auto directory = DataDirectory::open(data_dir);
    if (!directory) co_return fail(directory.error());
    const auto places = working_directories(*directory);
    if (!places) co_return fail(places.error());
    const auto scan = [&warden] { return WorkingDirectories::scan(warden); };
    const auto running = co_await on_pool(pool, scan);
    if (!running) co_return fail(running.error());
    std::vector<std::string> worked_in;
    for (const auto& place : *places) {
        const auto processes = running->in(place);
        for (const auto& process : processes) {
            auto ended = co_await end_process(warden, pool, process, place);
            if (!ended) co_return fail(std::move(ended.error()));
        }
        if (!processes.empty()) worked_in.push_back(place.lexically_relative(directory->storage()).string());
    }
    co_return worked_in;
}

}  // namespace noid::vm
