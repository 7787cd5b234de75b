#include "storage_command.hpp"

#include <fmt/format.h>

#include <cstdio>
#include <utility>

#include "base/log.hpp"
#include "server_process.hpp"
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
            // Without a pool there is nothing to unmount, and show() says so.
            if (auto done = volume::unmount_pool(config.paths.data_dir);
                !done && done.error().code != Errc::not_found)
                return done;
            return show(config);
    }
    std::unreachable();
}

}  // namespace

Result<Storage> prepare_storage(const config::ServerConfig& config) {
    const auto& data_dir = config.paths.data_dir;
    // A pool that is there holds VMs, whatever is configured by now.
    const auto present = volume::pool_usage(data_dir);
    if (!present && config.storage.pool == config::ServerConfig::Storage::Pool::never) return Storage{};
    const auto state = volume::prepare_pool(data_dir, config.storage.pool_size);
    if (!state) return fail(state.error());
    Storage storage{.pool = state->reason};
    const auto usage = volume::pool_usage(data_dir);
    if (usage && usage->free_below + usage->allocated < usage->size.bytes()) {
        storage.small_disk = usage->image.string();
        storage.free_below = usage->free_below;
    }
    return storage;
}

void log_storage(const Storage& storage) {
    if (!storage.pool.empty()) log::info("storage", {{"pool", storage.pool}});
    if (storage.small_disk)
        log::warn("the disk below the pool is smaller than what the pool may grow to",
                  {{"image", *storage.small_disk}, {"free_below", std::to_string(storage.free_below)}});
}

int storage(const config::ConfigSource& source, StorageVerb verb) {
    const auto config = config::load_server_config(source, true);
    if (!config) {
        fmt::print(stderr, "Error: {}\n", config.error().what);
        return 2;
    }
    auto done = carry_out(*config, verb);
    if (done && verb == StorageVerb::mount) done = give_to_server_user(*config);
    if (done) return 0;
    fmt::print(stderr, "Error: {}\n", done.error().full());
    return 1;
}

}  // namespace noid::server
