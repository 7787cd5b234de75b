#include <fmt/format.h>
#include <sys/resource.h>

#include <boost/asio/io_context.hpp>
#include <cstdio>

#include "base/log.hpp"
#include "base/readiness.hpp"
#include "commands.hpp"
#include "net/daemon.hpp"

namespace noid::netd {
namespace {

// Every slot has sockets of its own.
void raise_descriptor_limit() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

int run(const net::NetdConfig& config, int ready_fd) {
    log::set_up(log::Level::info, log::Format::text);
    raise_descriptor_limit();
    boost::asio::io_context loop{1};
    auto daemon = net::Daemon::start(loop, config);
    if (!daemon) {
        log::shut_down();
        fmt::print(stderr, "Error: {}\n", daemon.error().full());
        return 1;
    }
    say_ready(ready_fd);
    (*daemon)->run();
    daemon->reset();
    log::shut_down();
    return 0;
}

}  // namespace noid::netd
