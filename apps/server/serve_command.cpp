#include "serve_command.hpp"

#include <fmt/format.h>
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/thread_pool.hpp>
#include <csignal>
#include <cstdio>
#include <memory>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "api/server.hpp"
#include "base/log.hpp"
#include "launcher/capabilities.hpp"
#include "netclient/daemon_network.hpp"
#include "storage_command.hpp"
#include "vm/local_engine.hpp"
#include "vmm_choice/choose.hpp"

namespace noid::server {
namespace {

using namespace std::chrono_literals;

// How long requests may go on once the server was told to stop.
constexpr auto drain_deadline = 10s;

// Sessions and VMs need descriptors: the hard limit is what the operator allowed.
void raise_descriptor_limit() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
}

// What confining VMMs takes (docs/adr/0005), a data directory that is not root's, and a port below 1024.
constexpr std::array needed_capabilities{
    CAP_SYS_ADMIN,       CAP_SYS_CHROOT, CAP_SETUID, CAP_SETGID,       CAP_SETPCAP,    CAP_CHOWN,
    CAP_FOWNER,          CAP_KILL,       CAP_MKNOD,  CAP_DAC_OVERRIDE, CAP_SYS_PTRACE, CAP_SYS_RESOURCE,
    CAP_NET_BIND_SERVICE};

void say_ready(int ready_fd) {
    if (ready_fd < 0) return;
    constexpr std::string_view word = "ready\n";
    [[maybe_unused]] const ssize_t told = ::write(ready_fd, word.data(), word.size());
    ::close(ready_fd);
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

Awaitable<Result<void>> run(asio::io_context& loop, asio::thread_pool& pool,
                            const config::ServerConfig& config, int ready_fd) {
    asio::signal_set stop_asked{loop, SIGTERM, SIGINT};
    auto choice = co_await vmm_choice::choose(config.vmm, pool);
    if (!choice) co_return fail(choice.error());
    log::info("VMM chosen", {{"vmm", choice->reason}});
    // A variable: g++ 12 destroys an aggregate that is made inside a co_await expression twice.
    vm::EngineParts parts{loop, config, std::move(choice->vmm),
                          std::make_unique<netclient::DaemonNetwork>(config.paths.netd_socket)};
    auto engine = co_await vm::LocalEngine::open(std::move(parts));
    if (!engine) co_return fail(engine.error());
    auto api = api::ApiServer::create(loop, **engine, config);
    if (!api) {
        co_await (*engine)->close();
        co_return fail(api.error());
    }
    (*api)->start();
    fmt::print(stderr, "noid-server v{} listening on {}\n", NOID_VERSION, (*api)->address());
    say_ready(ready_fd);
    co_await stop_asked.async_wait(asio::use_awaitable);
    co_await (*api)->stop(drain_deadline);
    co_await (*engine)->close();
    co_return Result<void>{};
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
    // Before there are threads, which would keep theirs.
    if (::geteuid() == 0) {
        if (const auto dropped = launcher::keep_capabilities(needed_capabilities); !dropped) {
            fmt::print(stderr, "Error: {}\n", dropped.error().full());
            return 1;
        }
    }
    set_up_log(config->logging);
    raise_descriptor_limit();
    if (const auto prepared = prepare_storage(*config); !prepared) {
        fmt::print(stderr, "Error: {}\n", prepared.error().full());
        return 1;
    }

    asio::io_context loop{static_cast<int>(config->server.workers)};
    asio::thread_pool pool{4};
    int exit_code = 1;
    asio::co_spawn(loop, run(loop, pool, *config, ready_fd), [&](std::exception_ptr bug, Result<void> ended) {
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
