#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <optional>

#include "commands.hpp"
#include "net/netd_config.hpp"

int main(int argc, char** argv) {
    CLI::App app{"Networks for Noid's microVMs: TAP devices, namespaces, NAT and isolation", "noid-netd"};
    app.set_version_flag("-V,--version", "noid-netd " NOID_VERSION);
    app.require_subcommand(0, 1);
    std::optional<std::filesystem::path> file;
    app.add_option("--config", file, "netd.toml to read (default: /etc/noid/netd.toml, if there is one)");

    int ready_fd = -1;
    auto* run = app.add_subcommand("run", "Serve (also what happens without a command)");
    run->add_option("--ready-fd", ready_fd, "descriptor to write 'ready' to once the daemon listens")
        ->check(CLI::NonNegativeNumber);
    auto* status = app.add_subcommand("status", "Show which VMs have a network, and their traffic");
    auto* doctor = app.add_subcommand("doctor", "Look for what keeps guests from the network");
    auto* cleanup =
        app.add_subcommand("cleanup", "Remove every slot and rule from the host; VMs lose their network");
    for (auto* command : {run, status, doctor, cleanup}) command->fallthrough();

    try {
        app.parse(argc, argv);
    } catch (const CLI::Success& asked) {
        return app.exit(asked);
    } catch (const CLI::ParseError& problem) {
        fmt::print(stderr, "error: {}\n\nFor more information, try '--help'.\n", problem.what());
        return 2;
    }
    const auto config = noid::net::find_netd_config(file);
    if (!config) {
        fmt::print(stderr, "Error: {}\n", config.error().what);
        return 2;
    }
    if (status->parsed()) return noid::netd::show_status(*config);
    if (doctor->parsed()) return noid::netd::diagnose(*config);
    if (cleanup->parsed()) return noid::netd::clean_up(*config);
    return noid::netd::run(*config, ready_fd);
}
