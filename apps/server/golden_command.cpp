#include "golden_command.hpp"

#include <fmt/format.h>

#include <cstdio>

#include "server_process.hpp"
#include "vm/golden.hpp"

namespace noid::server {
namespace {

void describe(const char* title, const vm::SnapshotConfig& config) {
    const vm::CheckpointView view = config.view();
    fmt::print("{:<9} {}  {} cpus, {} MiB memory, {} MiB disk, saved {} by {}\n", title, view.id, view.cpus,
               view.memory.count, view.disk.count, view.created_at, view.vmm);
}

Result<void> show(const vm::Golden& golden) {
    auto status = golden.status();
    if (!status) return fail(std::move(status.error()));
    if (status->present) describe("golden", *status->present);
    if (!status->present) fmt::print("No golden snapshot: creates boot, or wake from automatic templates.\n");
    if (status->previous) describe("previous", *status->previous);
    return {};
}

Result<void> carry_out(const vm::Golden& golden, const GoldenCommand& command) {
    using Verb = GoldenCommand::Verb;
    switch (command.verb) {
        case Verb::status:
            break;
        case Verb::promote:
            if (auto done = golden.promote(command.checkpoint); !done) return fail(std::move(done.error()));
            break;
        case Verb::rollback:
            if (auto done = golden.rollback(); !done) return fail(std::move(done.error()));
            break;
        case Verb::clear:
            if (auto done = golden.clear(); !done) return done;
            break;
    }
    return show(golden);
}

}  // namespace

int golden(const config::ConfigSource& source, const GoldenCommand& command) {
    const auto config = config::load_server_config(source, true);
    if (!config) {
        fmt::print(stderr, "Error: {}\n", config.error().what);
        return 2;
    }
    if (const auto acting = act_as_server_user(*config); !acting) {
        fmt::print(stderr, "Error: {}\n", acting.error().full());
        return 1;
    }
    auto opened = vm::Golden::open(config->paths.data_dir);
    auto done = opened ? carry_out(*opened, command) : Result<void>{fail(std::move(opened.error()))};
    if (done) return 0;
    fmt::print(stderr, "Error: {}\n", done.error().full());
    return 1;
}

}  // namespace noid::server
