#include "fsck_command.hpp"

#include <fmt/format.h>

#include <cstdio>

#include "server_process.hpp"
#include "vm/fsck.hpp"

namespace noid::server {

int fsck(const config::ConfigSource& source, bool repair) {
    const auto config = config::load_server_config(source, true);
    if (!config) {
        fmt::print(stderr, "Error: {}\n", config.error().what);
        return 2;
    }
    const auto mode = repair ? vm::FsckMode::repair : vm::FsckMode::look;
    const auto process = ServerProcess::begin(*config);
    if (!process) {
        fmt::print(stderr, "Error: {}\n", process.error().full());
        return 1;
    }
    const auto findings = vm::fsck(config->paths.data_dir, *process->starter().warden, mode);
    if (!findings) {
        fmt::print(stderr, "Error: {}\n", findings.error().full());
        return 1;
    }
    bool left = false;
    for (const vm::Finding& finding : *findings) {
        left |= finding.done.empty();
        fmt::print("{}: {}{}{}\n", finding.place, finding.what, finding.done.empty() ? "" : ": ",
                   finding.done);
    }
    if (findings->empty()) fmt::print("Nothing is wrong in {}.\n", config->paths.data_dir.string());
    return left ? 1 : 0;
}

}  // namespace noid::server
