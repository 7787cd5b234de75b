#include "check_config_command.hpp"

#include <fmt/format.h>

#include <cstdio>

namespace noid::server {

int check_config(const config::ConfigSource& source) {
    const auto config = config::load_server_config(source, true);
    if (!config) {
        fmt::print(stderr, "Error: {}\n", config.error().what);
        return 2;
    }
    const auto file = config::find_config(source, true);
    fmt::print("configuration: {}\n", file ? file->string() : "built-in defaults (no server.toml found)");
    fmt::print("listen:        {}\n", config->server.listen);
    fmt::print("data_dir:      {}\n", config->paths.data_dir.string());
    fmt::print("kernel:        {}\n", config->paths.kernel.string());
    fmt::print("initrd:        {}\n", config->paths.initrd.string());
    fmt::print("rootfs:        {}\n", config->paths.rootfs.string());
    return 0;
}

}  // namespace noid::server
