#pragma once

#include "net/netd_config.hpp"

// What noid-netd does, a function for each command. Each gives the program's exit status.
namespace noid::netd {

// Serves until SIGTERM or SIGINT. `ready_fd`: gets "ready\n" once requests are answered; -1: none.
// systemd is told too, when it asks for that.
int run(const net::NetdConfig& config, int ready_fd);
int show_status(const net::NetdConfig& config);
int diagnose(const net::NetdConfig& config);
int clean_up(const net::NetdConfig& config);

}  // namespace noid::netd
