#include "storage_command.hpp"

#include <fmt/format.h>

#include <cstdio>
#include <utility>

#include "base/log.hpp"
#include "volume/pool.hpp"

namespace noid::server {
namespace {

Result<void> show(const config::ServerConfig& config) {
    const auto usage = volume::pool_usage(config.paths.data_dir);
    if (!usage && usage.error().code == Errc::not_found) {
        fmt::print("No pool: VM data are in {} itself.\n", config.paths.data_dir.string());
        return {};
    }
    if (!usage) return fail(usage.error());
    constexpr int mib = 20;
    fmt::print("{}: {}, {} MiB at most, takes {} MiB; {} MiB are free below it\n", usage->image.string(),
               usage->mounted ? "mounted" : "not mounted", usage->size.count, usage->allocated >> mib,
               usage->free_below >> mib);
    return {};
}

Result<void> mount(const config::ServerConfig& config) {
    // Only serving makes a pool.
    const auto present = volume::pool_usage(config.paths.data_dir);
    if (!present) return fail(present.error());
    const auto state = volume::prepare_pool(config.paths.data_dir, config.storage.pool_size);
    if (!state) return fail(state.error());
    return show(config);
}

Result<void> carry_out(const config::ServerConfig& config, StorageVerb verb) {
    switch (verb) {
        case StorageVerb::status:
            return show(config);
        case StorageVerb::mount:
            return mount(config);
        case StorageVerb::unmount:
            if (auto done = volume::unmount_pool(config.paths.data_dir); !done) return done;
            return show(config);
    }
    std::unreachable();
}

}  // namespace

Result<void> prepare_storage(const config::ServerConfig& config) {
    const auto& data_dir = config.paths.data_dir;
    // A pool that is there holds VMs, whatever is configured by now.
    const auto present = volume::pool_usage(data_dir);
    if (!present && config.storage.pool == config::ServerConfig::Storage::Pool::never) return {};
    const auto state = volume::prepare_pool(data_dir, config.storage.pool_size);
    if (!state) return fail(state.error());
    log::info("storage", {{"pool", state->reason}});
    const auto usage = volume::pool_usage(data_dir);
    if (usage && usage->free_below + usage->allocated < usage->size.bytes())
        log::warn("the disk below the pool is smaller than what the pool may grow to",
                  {{"image", usage->image.string()}, {"free_below", std::to_string(usage->free_below)}});
    return {};
}

int storage(const config::ConfigSource& source, StorageVerb verb) {
    const auto config = config::load_server_config(source, true);
    if (!config) {
        fmt::print(stderr, "Error: {}\n", config.error().what);
        return 2;
    }
    const auto done = carry_out(*config, verb);
    if (done) return 0;
    fmt::print(stderr, "Error: {}\n", done.error().full());
    return 1;
}

}  // namespace noid::server
