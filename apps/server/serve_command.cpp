#include "serve_command.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/deferred.hpp>
#include <boost/asio/experimental/parallel_group.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <csignal>
#include <cstdio>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "api/server.hpp"
#include "base/log.hpp"
#include "base/readiness.hpp"
#include "netclient/daemon_network.hpp"
#include "server_process.hpp"
#include "storage_command.hpp"
#include "vm/local_engine.hpp"
#include "vmm_choice/choose.hpp"

namespace noid::server {
namespace {

using namespace std::chrono_literals;

// How long requests may go on once the server was told to stop.
constexpr auto drain_deadline = 10s;

// What whoever started this left open is nobody's business here, least of all the privileged part's.
void close_inherited(int ready_fd) {
    constexpr unsigned first = 3;
    const auto kept = ready_fd < 3 ? first : static_cast<unsigned>(ready_fd);
    if (kept > first) ::close_range(first, kept - 1, 0);
    ::close_range(ready_fd < 3 ? first : kept + 1, ~0U, 0);
    if (ready_fd >= 3) ::fcntl(ready_fd, F_SETFD, FD_CLOEXEC);
}

void set_up_log(const config::ServerConfig::Logging& logging) {
    using Level = config::ServerConfig::Logging::Level;
    using Format = config::ServerConfig::Logging::Format;
    const auto level = [&] {
        switch (logging.level) {
            case Level::debug:
                return log::Level::debug;
            case Level::info:
                return log::Level::info;
            case Level::warn:
                return log::Level::warn;
            case Level::error:
                return log::Level::error;
        }
        std::unreachable();
    };
    log::set_up(level(), logging.format == Format::json ? log::Format::json : log::Format::text);
}

// Waits for a signal to stop. unavailable: the privileged part has ended, which ends this server, too. On a
// strand.
Awaitable<Result<void>> until_asked_to_stop(asio::signal_set& stop_asked, const Fd* loss) {
    if (loss == nullptr) {
        co_await stop_asked.async_wait(asio::use_awaitable);
        co_return Result<void>{};
    }
    asio::posix::stream_descriptor lost{co_await asio::this_coro::executor,
                                        ::fcntl(loss->get(), F_DUPFD_CLOEXEC, 3)};
    auto either = asio::experimental::make_parallel_group(
        stop_asked.async_wait(asio::deferred),
        lost.async_wait(asio::posix::stream_descriptor::wait_read, asio::deferred));
    const auto [order, no_signal, number, not_lost] =
        co_await either.async_wait(asio::experimental::wait_for_one(), asio::use_awaitable);
    if (order[0] == 0) co_return Result<void>{};
    log::error("the privileged part of this server has ended; VMs run on");
    co_return fail(Errc::unavailable, "the privileged part of this server has ended");
}

Awaitable<Result<void>> run(asio::io_context& loop, asio::thread_pool& pool,
                            const config::ServerConfig& config, const ServerProcess& process,
                            api::BoundPorts ports, int ready_fd) {
    asio::signal_set stop_asked{loop, SIGTERM, SIGINT};
    auto choice = co_await vmm_choice::choose(config.vmm, process.starter(), pool);
    if (!choice) co_return fail(choice.error());
    log::info("VMM chosen", {{"vmm", choice->reason}});
    // A variable: g++ 12 destroys an aggregate that is made inside a co_await expression twice.
    vm::EngineParts parts{
        loop, config, std::move(choice->vmm), process.starter().warden,
        std::make_unique<netclient::DaemonNetwork>(config.paths.netd_socket, process.network(pool))};
    auto engine = co_await vm::LocalEngine::open(std::move(parts));
    if (!engine) co_return fail(engine.error());
    auto api = api::ApiServer::create(loop, **engine, config, std::move(ports));
    if (!api) {
        co_await (*engine)->close();
        co_return fail(api.error());
    }
    co_await (*api)->start();
    fmt::print(stderr, "noid-server v{} listening on {}\n", NOID_VERSION, (*api)->address());
    say_ready(ready_fd);
    const auto wait = [&] { return until_asked_to_stop(stop_asked, process.loss()); };
    auto asked = co_await on_strand(asio::make_strand(loop), wait);
    co_await (*api)->stop(asked ? drain_deadline : 0s);
    co_await (*engine)->close();
    co_return asked;
}

}  // namespace

int serve(const config::ConfigSource& source, int ready_fd) {
    ::umask(0077);
    const auto config = config::load_server_config(source, true);
    if (!config) {
        fmt::print(stderr, "Error: {}\n", config.error().what);
        return 2;
    }
    std::signal(SIGPIPE, SIG_IGN);
    close_inherited(ready_fd);
    raise_descriptor_limit();
    const auto storage = prepare_storage(*config);
    if (!storage) {
        fmt::print(stderr, "Error: {}\n", storage.error().full());
        return 1;
    }
    api::BoundPorts ports;
    const auto bind = [&]() -> Result<void> {
        auto bound = api::bind_privileged_ports(*config);
        if (!bound) return fail(std::move(bound.error()));
        ports = std::move(*bound);
        return {};
    };
    std::vector<int> own_descriptors;
    if (ready_fd >= 0) own_descriptors.push_back(ready_fd);
    const auto process = ServerProcess::begin(*config, bind, std::move(own_descriptors));
    if (!process) {
        fmt::print(stderr, "Error: {}\n", process.error().full());
        return 1;
    }
    set_up_log(config->logging);
    log_storage(*storage);
    log::info("server", {{"runs_as", process->user()}});

    asio::io_context loop{static_cast<int>(config->server.workers)};
    asio::thread_pool pool{4};
    int exit_code = 1;
    auto serving = run(loop, pool, *config, *process, std::move(ports), ready_fd);
    asio::co_spawn(loop, std::move(serving), [&](std::exception_ptr bug, Result<void> ended) {
        if (bug) std::rethrow_exception(bug);
        if (!ended) fmt::print(stderr, "Error: {}\n", ended.error().full());
        exit_code = ended ? 0 : 1;
        loop.stop();
    });
    std::vector<std::jthread> workers;
    for (std::uint32_t i = 1; i < config->server.workers; ++i) workers.emplace_back([&loop] { loop.run(); });
    loop.run();
    workers.clear();
    pool.join();
    log::shut_down();
    return exit_code;
}

}  // namespace noid::server
