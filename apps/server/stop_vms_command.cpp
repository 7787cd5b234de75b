#include "stop_vms_command.hpp"

#include <fmt/format.h>
#include <sys/stat.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/log.hpp"
#include "netclient/daemon_network.hpp"
#include "server_process.hpp"
#include "vm/local_engine.hpp"
#include "vm/state_machine.hpp"
#include "vm/stray_processes.hpp"
#include "vm/task_group.hpp"
#include "vmm_choice/choose.hpp"
#include "volume/pool.hpp"

namespace noid::server {
namespace {

// One that does not shut down in order ends all the same.
Awaitable<void> stop_one(std::shared_ptr<vm::Vm> vm) {
    const auto name = vm->view().name;
    auto stopped = co_await vm->stop(vm::StopMode::graceful);
    if (!stopped) stopped = co_await vm->stop(vm::StopMode::force);
    if (stopped) fmt::print("stopped {}\n", name);
    if (!stopped) fmt::print(stderr, "warning: {}\n", stopped.error().full());
}

Awaitable<void> stop_all(vm::Engine& engine) {
    const auto users = co_await engine.users();
    if (!users) {
        fmt::print(stderr, "warning: {}\n", users.error().full());
        co_return;
    }
    vm::TaskGroup group{co_await asio::this_coro::executor, "stop of all VMs"};
    for (const auto& user : *users) {
        const auto tenant = engine.tenant_named(user.name);
        if (!tenant) continue;
        for (const auto& view : tenant->list()) {
            if (!vm::has_process(view.state)) continue;
            const auto name = vm::VmName::parse(view.name);
            if (!name) continue;
            if (auto found = tenant->find(*name)) group.spawn(stop_one(std::move(*found)));
        }
    }
    co_await group.join();
}

// As a server that comes and takes everything over.
Awaitable<Result<void>> shut_guests_down(asio::io_context& loop, asio::thread_pool& pool,
                                         config::ServerConfig config, const ServerProcess& process) {
    auto choice = co_await vmm_choice::choose(config.vmm, process.starter(), pool);
    if (!choice) co_return fail(std::move(choice.error()));
    config.pool.size = 0;  // nothing is kept ready any more
    // A variable: g++ 12 destroys an aggregate that is made inside a co_await expression twice.
    vm::EngineParts parts{
        loop, config, std::move(choice->vmm), process.starter().warden,
        std::make_unique<netclient::DaemonNetwork>(config.paths.netd_socket, process.network(pool))};
    auto engine = co_await vm::LocalEngine::open(std::move(parts));
    if (!engine) co_return fail(std::move(engine.error()));
    const auto stop = [&engine] { return stop_all(**engine); };
    co_await on_strand(asio::make_strand(loop), stop);
    co_await (*engine)->close();
    co_return Result<void>{};
}

// What runs after that: VMs of a user whose database cannot be read, and all of them where there is no VMM
// that works any more.
Awaitable<Result<void>> end_what_is_left(asio::thread_pool& pool, const config::ServerConfig& config,
                                         const ServerProcess& process) {
    const auto ended = co_await vm::end_all_processes(config.paths.data_dir, *process.starter().warden, pool);
    if (!ended) co_return fail(ended.error());
    for (const auto& place : *ended) fmt::print("ended what ran in {}\n", place);
    co_return Result<void>{};
}

Awaitable<Result<void>> run(asio::io_context& loop, asio::thread_pool& pool,
                            const config::ServerConfig& config, const ServerProcess& process) {
    auto asked = co_await shut_guests_down(loop, pool, config, process);
    if (!asked && asked.error().code == Errc::conflict) co_return asked;  // a server has it
    if (!asked) fmt::print(stderr, "warning: guests are not asked: {}\n", asked.error().full());
    co_return co_await end_what_is_left(pool, config, process);
}

Result<void> carry_out(const config::ServerConfig& config) {
    ::umask(0077);
    std::signal(SIGPIPE, SIG_IGN);
    raise_descriptor_limit();
    // A server's unit has mounts of its own, the pool among them. Only serving makes one.
    if (volume::pool_usage(config.paths.data_dir)) {
        const auto state = volume::prepare_pool(config.paths.data_dir, config.storage.pool_size);
        if (!state) return fail(state.error());
    }
    const auto process = ServerProcess::begin(config);
    if (!process) return fail(process.error());
    log::set_up(log::Level::warn, log::Format::text);
    asio::io_context loop;
    asio::thread_pool pool{4};
    std::optional<Result<void>> outcome;
    asio::co_spawn(loop, run(loop, pool, config, *process), [&](std::exception_ptr bug, Result<void> ended) {
        if (bug) std::rethrow_exception(bug);
        outcome = std::move(ended);
        loop.stop();
    });
    loop.run();
    pool.join();
    log::shut_down();
    if (!outcome) return fail(Errc::internal, "ended without an answer");
    return std::move(*outcome);
}

}  // namespace

int stop_vms(const config::ConfigSource& source) {
    const auto config = config::load_server_config(source, true);
    if (!config) {
        fmt::print(stderr, "Error: {}\n", config.error().what);
        return 2;
    }
    std::error_code unreadable;
    // Where there is none, none is made.
    if (!std::filesystem::exists(config->paths.data_dir, unreadable)) return 0;
    const auto done = carry_out(*config);
    if (done) return 0;
    fmt::print(stderr, "Error: {}\n", done.error().full());
    return 1;
}

}  // namespace noid::server
