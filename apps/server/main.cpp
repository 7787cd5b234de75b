#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <optional>
#include <string>

#include "check_config_command.hpp"
#include "config/server_config.hpp"
#include "doctor_command.hpp"

namespace {

using noid::config::ConfigSource;

std::optional<std::string> environment(const std::string& name) {
    const char* value = std::getenv(name.c_str());
    if (value == nullptr) return std::nullopt;
    return value;
}

// Every setting is a flag too: --listen, --data-dir, --limits-max-vms.
class SettingFlags {
  public:
    void add_to(CLI::App& command) {
        command.add_option("--config", file_, "server.toml to read");
        for (const auto& setting : noid::config::settings()) {
            command
                .add_option("--" + setting.flag, values_[setting.flag],
                            fmt::format("overrides {} and {}", setting.key, setting.variable))
                ->group("Settings");
        }
    }

    [[nodiscard]] ConfigSource source() const {
        ConfigSource source;
        if (!file_.empty()) source.file = file_;
        source.environment = environment;
        for (const auto& [flag, value] : values_) {
            if (value) source.flags.emplace_back(flag, *value);
        }
        return source;
    }

  private:
    std::string file_;
    std::map<std::string, std::optional<std::string>> values_;
};

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{"The Noid server: microVMs for people and agents", "noid-server"};
    app.set_version_flag("-V,--version", "noid-server " NOID_VERSION);
    app.require_subcommand(1);

    SettingFlags flags;
    auto* check_config = app.add_subcommand("check-config", "Read the configuration and say what holds");
    auto* doctor = app.add_subcommand("doctor", "Try what Noid needs of this host");
    flags.add_to(*check_config);
    flags.add_to(*doctor);

    try {
        app.parse(argc, argv);
    } catch (const CLI::Success& asked) {
        return app.exit(asked);
    } catch (const CLI::ParseError& problem) {
        fmt::print(stderr, "error: {}\n\nFor more information, try '--help'.\n", problem.what());
        return 2;
    }
    if (check_config->parsed()) return noid::server::check_config(flags.source());
    return noid::server::doctor(flags.source());
}
