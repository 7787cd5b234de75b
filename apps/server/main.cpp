#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "check_config_command.hpp"
#include "config/server_config.hpp"
#include "doctor_command.hpp"
#include "fsck_command.hpp"
#include "golden_command.hpp"
#include "migrate_command.hpp"
#include "serve_command.hpp"
#include "stop_vms_command.hpp"
#include "storage_command.hpp"
#include "user_command.hpp"

namespace {

using noid::config::ConfigSource;
using noid::server::GoldenCommand;
using noid::server::UserCommand;

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

// The commands about users, in both spellings.
class UserCommands {
  public:
    UserCommands(CLI::App& app, SettingFlags& flags) : flags_{flags} {
        using Verb = UserCommand::Verb;
        CLI::App& user = *app.add_subcommand("user", "Manage who may use this server");
        user.require_subcommand(1);
        add(user, "create", "Create a user and print the token", {.verb = Verb::create});
        add(user, "rotate-token", "Replace a user's token and print the new one",
            {.verb = Verb::rotate_token});
        add(user, "list", "List the users", {.verb = Verb::list});
        add(user, "show", "Show one user", {.verb = Verb::show});
        CLI::App& limits = add(user, "set-limits", "Change what a user may have; those not named stay",
                               {.verb = Verb::set_limits});
        add_limit(limits, "--max-vms", "VMs", &UserCommand::max_vms);
        add_limit(limits, "--max-memory", "MiB of all VMs that have a process", &UserCommand::max_memory_mib);
        add_limit(limits, "--max-vcpus", "vCPUs of these VMs", &UserCommand::max_vcpus);
        add_limit(limits, "--max-disk", "MiB that VMs and checkpoints really take",
                  &UserCommand::max_disk_mib);
        add(user, "delete", "Remove a user with all VMs and data", {.verb = Verb::remove});
        const auto older = [](Verb verb) { return UserCommand{.verb = verb, .original_spelling = true}; };
        add(app, "add-user", "As 'user create'", older(Verb::create));
        add(app, "rotate-token", "As 'user rotate-token'", older(Verb::rotate_token));
        add(app, "list-users", "As 'user list'", older(Verb::list));
        add(app, "remove-user", "As 'user delete'", older(Verb::remove));
    }

    // The command that was given, if it was one of these.
    [[nodiscard]] std::optional<UserCommand> chosen() const {
        for (const auto& [parsed, command] : commands_) {
            if (!parsed->parsed()) continue;
            UserCommand chosen = command;
            for (const auto& [field, value] : limits_) chosen.*field = value;
            chosen.name = name_;
            chosen.json = json_;
            return chosen;
        }
        return std::nullopt;
    }

  private:
    CLI::App& add(CLI::App& parent, const std::string& name, const std::string& help, UserCommand command) {
        CLI::App& made = *parent.add_subcommand(name, help);
        if (command.verb != UserCommand::Verb::list) made.add_option("NAME", name_, "the user")->required();
        made.add_flag("--json", json_, "print JSON");
        flags_.add_to(made);
        commands_.emplace_back(&made, command);
        return made;
    }

    using Limit = UserCommand::NewLimit UserCommand::*;
    void add_limit(CLI::App& command, const std::string& flag, const std::string& help, Limit field) {
        const auto keep = [this, field](const std::string& text) {
            std::uint64_t number = 0;
            const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
            const bool is_number = error == std::errc{} && end == text.data() + text.size();
            if (!is_number && text != "default")
                throw CLI::ValidationError("a whole number, 0 (not bounded) or 'default' is expected");
            limits_.emplace_back(field, is_number ? std::optional{number} : std::nullopt);
        };
        command.add_option_function<std::string>(flag, keep, help)->type_name("N|default");
    }

    SettingFlags& flags_;
    std::vector<std::pair<Limit, std::optional<std::uint64_t>>> limits_;
    std::string name_;
    bool json_ = false;
    std::vector<std::pair<CLI::App*, UserCommand>> commands_;
};

// The commands about the operator's template.
class GoldenCommands {
  public:
    GoldenCommands(CLI::App& app, SettingFlags& flags) : flags_{flags} {
        using Verb = GoldenCommand::Verb;
        CLI::App& golden = *app.add_subcommand("golden", "Manage the template that new VMs wake from");
        golden.require_subcommand(1);
        add(golden, "status", "Say what is golden now, and what was before", Verb::status);
        add(golden, "promote", "Make a checkpoint golden", Verb::promote)
            .add_option("CHECKPOINT", checkpoint_, "its full id")
            ->required();
        add(golden, "rollback", "Exchange golden and the one before it", Verb::rollback);
        add(golden, "clear", "Let VMs boot again", Verb::clear);
    }

    // The command that was given, if it was one of these.
    [[nodiscard]] std::optional<GoldenCommand> chosen() const {
        for (const auto& [parsed, verb] : commands_) {
            if (parsed->parsed()) return GoldenCommand{verb, checkpoint_};
        }
        return std::nullopt;
    }

  private:
    CLI::App& add(CLI::App& parent, const std::string& name, const std::string& help,
                  GoldenCommand::Verb verb) {
        CLI::App& made = *parent.add_subcommand(name, help);
        flags_.add_to(made);
        commands_.emplace_back(&made, verb);
        return made;
    }

    SettingFlags& flags_;
    std::string checkpoint_;
    std::vector<std::pair<CLI::App*, GoldenCommand::Verb>> commands_;
};

// The commands about the pool that VM data may be in.
class StorageCommands {
  public:
    StorageCommands(CLI::App& app, SettingFlags& flags) {
        using Verb = noid::server::StorageVerb;
        CLI::App& storage = *app.add_subcommand("storage", "The btrfs image that VM data may be in");
        storage.require_subcommand(1);
        for (const auto& [name, help, verb] :
             {std::tuple{"status", "Say what there is and what it takes", Verb::status},
              std::tuple{"mount", "Mount it, as a start of the server does", Verb::mount},
              std::tuple{"unmount", "Unmount it; refused while VMs run", Verb::unmount}}) {
            CLI::App& made = *storage.add_subcommand(name, help);
            flags.add_to(made);
            commands_.emplace_back(&made, verb);
        }
    }

    // The command that was given, if it was one of these.
    [[nodiscard]] std::optional<noid::server::StorageVerb> chosen() const {
        for (const auto& [parsed, verb] : commands_) {
            if (parsed->parsed()) return verb;
        }
        return std::nullopt;
    }

  private:
    std::vector<std::pair<CLI::App*, noid::server::StorageVerb>> commands_;
};

// Nothing is downloaded: there is no release channel whose signatures could be checked (docs/cli.md).
int say_how_to_update() {
    fmt::print("noid-server " NOID_VERSION
               " comes from a source tree. To update it, run there:\n"
               "    git pull && cmake --preset release && cmake --build build/release --target noid-server "
               "noid-agent\n"
               "install what is in build/release/bin where it is now, and restart the server: VMs run on.\n");
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{"The Noid server: microVMs for people and agents", "noid-server"};
    app.set_version_flag("-V,--version", "noid-server " NOID_VERSION);
    app.require_subcommand(0, 1);

    SettingFlags flags;
    flags.add_to(app);
    int ready_fd = -1;
    auto* serve = app.add_subcommand("serve", "Serve (also what happens without a command)");
    auto* check_config = app.add_subcommand("check-config", "Read the configuration and say what holds");
    auto* doctor = app.add_subcommand("doctor", "Try what Noid needs of this host");
    auto* fsck = app.add_subcommand("fsck", "Examine the data directory while no server runs");
    bool repair = false;
    fsck->add_flag("--repair", repair, "put right what can be");
    auto* stop_vms = app.add_subcommand("stop-vms", "Stop every VM while no server runs");
    auto* migrate = app.add_subcommand("migrate", "Take over users and disks from another data directory");
    bool from_original = false;
    std::optional<std::string> migrate_from;
    migrate->add_flag("--from-original", from_original, "from the original Noid (0.2)")->required();
    migrate->add_option("--from", migrate_from, "its data directory [~/.noid or /home/firecracker/.noid]")
        ->type_name("DIR");
    auto* update = app.add_subcommand("update", "Say how to update this program");
    for (auto* command : {serve, check_config, doctor, fsck, stop_vms, migrate}) flags.add_to(*command);
    serve->add_option("--ready-fd", ready_fd, "descriptor to write 'ready' to once the server listens")
        ->check(CLI::NonNegativeNumber);
    const UserCommands users{app, flags};
    const GoldenCommands golden{app, flags};
    const StorageCommands storage{app, flags};

    try {
        app.parse(argc, argv);
    } catch (const CLI::Success& asked) {
        return app.exit(asked);
    } catch (const CLI::ParseError& problem) {
        fmt::print(stderr, "error: {}\n\nFor more information, try '--help'.\n", problem.what());
        return 2;
    }
    if (check_config->parsed()) return noid::server::check_config(flags.source());
    if (doctor->parsed()) return noid::server::doctor(flags.source());
    if (fsck->parsed()) return noid::server::fsck(flags.source(), repair);
    if (stop_vms->parsed()) return noid::server::stop_vms(flags.source());
    if (update->parsed()) return say_how_to_update();
    if (migrate->parsed()) return noid::server::migrate(flags.source(), migrate_from);
    if (const auto command = golden.chosen()) return noid::server::golden(flags.source(), *command);
    if (const auto verb = storage.chosen()) return noid::server::storage(flags.source(), *verb);
    if (const auto command = users.chosen()) return noid::server::administer_users(flags.source(), *command);
    return noid::server::serve(flags.source(), ready_fd);
}
