#include "cli/arguments.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "cli/network_rule.hpp"
#include "cli/quantities.hpp"
#include "cli/version.hpp"

namespace noid::cli {
namespace {

constexpr auto vm_help = "VM; without it the one chosen by `noid use`";
constexpr auto vm_metavar = "[NAME]";

// Options of every command; the command line may have them anywhere.
constexpr auto global_options =
    "Everywhere: --server URL, --token TOKEN (instead of the configuration), --json (results as JSON).";

// The parser and what it fills in. CLI11 keeps references into both, so neither is ever moved.
class Grammar {
  public:
    Grammar();
    Grammar(const Grammar&) = delete;
    Grammar& operator=(const Grammar&) = delete;

    // `rest` is what stood after "--".
    std::variant<Invocation, Notice> parse(std::vector<std::string> words, std::vector<std::string> rest);
    [[nodiscard]] const CLI::App& app() const { return app_; }
    // Commands that take what stands after "--" as words of their own.
    [[nodiscard]] static bool takes_rest(std::span<const std::string> words);

  private:
    void add_account_commands();
    void add_vm_commands();
    void add_exec_commands();
    void add_transfer_commands();
    void add_network_commands();
    void add_checkpoint_commands();
    void add_checkpoint_subcommands(CLI::App* parent);
    void add_program_commands();

    // Makes a command whose options fill a T, which becomes the invocation's when it is the one.
    template <class T>
    std::pair<CLI::App*, T*> add(const std::string& name, const std::string& description,
                                 CLI::App* parent = nullptr) {
        auto* command = (parent ? parent : &app_)->add_subcommand(name, description);
        auto value = std::make_shared<T>();
        command->footer(global_options);
        command->final_callback([this, value, command] {
            // Comes after that of a command below it, which is then the one meant.
            if (command->get_subcommands().empty()) invocation_.command = *value;
        });
        return {command, value.get()};
    }
    template <class T>
    CLI::App* add_for_vm(const std::string& name, const std::string& description) {
        auto [command, value] = add<T>(name, description);
        add_vm(command, value->vm);
        return command;
    }

    static void add_vm(CLI::App* command, VmArgument& vm) {
        command->add_option("NAME", vm, vm_help)->type_name("");
    }
    // An option that may be repeated and takes one value each time, so that words after it stay.
    static CLI::Option* add_repeated(CLI::App* command, const std::string& names,
                                     std::vector<std::string>& values, const std::string& metavar,
                                     const std::string& description) {
        return command->add_option(names, values, description)->allow_extra_args(false)->type_name(metavar);
    }
    // An option whose text `parse` reads.
    template <class Target, class T>
    static CLI::Option* add_parsed(CLI::App* command, const std::string& name, Target& target,
                                   Result<T> (*parse)(std::string_view), const std::string& metavar,
                                   const std::string& description) {
        return command
            ->add_option_function<std::string>(
                name,
                [&target, parse, name](const std::string& text) {
                    auto value = parse(text);
                    if (!value) throw CLI::ValidationError(name, value.error().what);
                    target = *value;
                },
                description)
            ->type_name(metavar);
    }
    // "[NAME] CHECKPOINT": one word is the checkpoint.
    template <class T>
    static void add_checkpoint_of_vm(CLI::App* command, T& value) {
        auto words = std::make_shared<std::vector<std::string>>();
        command->add_option("WORDS", *words, "[NAME] CHECKPOINT (its id, the beginning of it, or its name)")
            ->required()
            ->expected(1, 2);
        command->parse_complete_callback([words, &value] {
            value.checkpoint = words->back();
            if (words->size() == 2) value.vm = words->front();
        });
    }
    static void add_creation(CLI::App* command, Checkpoint& value) {
        add_vm(command, value.vm);
        command->add_option("CHECKPOINT", value.name, "Name for the checkpoint")->type_name("");
        command->add_option("--label", value.label, "Note to find it by")->type_name("TEXT");
    }
    // "[NAME] PORT": one word is the port.
    template <class T>
    static void add_port_of_vm(CLI::App* command, T& value) {
        auto words = std::make_shared<std::vector<std::string>>();
        command->add_option("WORDS", *words, "[NAME] PORT")->required()->expected(1, 2);
        command->parse_complete_callback([words, &value] {
            auto port = parse_port(words->back());
            if (!port) throw CLI::ValidationError("PORT", port.error().what);
            value.port = *port;
            if (words->size() == 2) value.vm = words->front();
        });
    }
    static void add_network(CLI::App* command, const std::string& mode_option, NetworkOptions& network);
    static void add_rules(CLI::App* command, const std::string& name, wire::NetworkRule::Action action,
                          NetworkOptions& network, const std::string& description);
    static void add_disk_limits(CLI::App* command, std::optional<std::uint64_t>& bandwidth,
                                std::optional<std::uint64_t>& iops);
    static void add_shape(CLI::App* command, VmShape& shape);
    static void add_command_options(CLI::App* command, CommandOptions& options);

    CLI::App app_{"microVMs that appear at once, can be checkpointed while running, rewound and cloned",
                  "noid"};
    Invocation invocation_;
};

Grammar::Grammar() {
    app_.set_help_flag("-h,--help", "Print help");
    app_.set_version_flag("-V,--version", fmt::format("noid {}", version), "Print version");
    app_.fallthrough();  // global options may stand after the command
    app_.require_subcommand(0, 1);
    app_.add_option("--server", invocation_.account.server,
                    "Server URL, instead of NOID_SERVER and the configuration")
        ->type_name("URL");
    app_.add_option("--token", invocation_.account.token,
                    "API token, instead of NOID_TOKEN and the configuration")
        ->type_name("TOKEN");
    app_.add_flag("--json", invocation_.json, "Print results as JSON, errors too (on stderr)");
    add_account_commands();
    add_vm_commands();
    add_exec_commands();
    add_transfer_commands();
    add_network_commands();
    add_checkpoint_commands();
    add_program_commands();
}

void Grammar::add_account_commands() {
    auto* auth = app_.add_subcommand("auth", "Say which server to use, and as whom");
    auth->require_subcommand(1);
    {
        auto [command, value] = add<AuthSetup>("setup", "Save the server's URL and your token", auth);
        command->add_option("--url", value->url, "The server, as http://HOST:7654 or https://HOST")
            ->required()
            ->type_name("URL");
        // The name is that of a global option, which would win: this command's own comes first.
        command->add_option("--token", value->token, "The token that the server's administrator gave you")
            ->required()
            ->type_name("TOKEN");
    }
    auto [use, chosen] = add<Use>("use", "Choose the VM that commands here mean when they name none");
    use->add_option("NAME", chosen->name, "VM")->required()->type_name("");
    add<Current>("current", "Show the server and the chosen VM");
    add<cli::WhoAmI>("whoami", "Show who the token belongs to");
}

// Rules count in the order in which they stand, so each is taken when it is read.
void Grammar::add_rules(CLI::App* command, const std::string& name, wire::NetworkRule::Action action,
                        NetworkOptions& network, const std::string& description) {
    command
        ->add_option_function<std::string>(
            name,
            [&network, action, name](const std::string& text) {
                auto rule = parse_network_rule(text);
                if (!rule) throw CLI::ValidationError(name, rule.error().what);
                rule->action = action;
                network.rules.push_back(std::move(*rule));
            },
            description)
        ->type_name("RULE")
        ->allow_extra_args(false)
        ->trigger_on_parse();
}

void Grammar::add_network(CLI::App* command, const std::string& mode_option, NetworkOptions& network) {
    using enum wire::NetworkRule::Action;
    command->add_option(mode_option, network.mode, "none (or isolated), egress, open [open]")
        ->type_name("MODE");
    add_rules(command, "--allow", allow, network,
              "What it may reach: [PROTOCOL:]TO[:PORTS], as *.debian.org:80,443; repeatable");
    add_rules(command, "--deny", deny, network,
              "What it may not reach, as 10.0.0.0/8; the first rule that matches decides; repeatable");
    add_parsed(command, "--upload", network.upload, parse_rate, "RATE",
               "Bytes per second that it may send (500K, 10M; off)");
    add_parsed(command, "--download", network.download, parse_rate, "RATE",
               "Bytes per second that it may receive");
}

void Grammar::add_disk_limits(CLI::App* command, std::optional<std::uint64_t>& bandwidth,
                              std::optional<std::uint64_t>& iops) {
    add_parsed(command, "--disk-bandwidth", bandwidth, parse_rate, "RATE",
               "Bytes per second that it may read and write (10M; off) [the server's]");
    add_parsed(command, "--disk-iops", iops, parse_rate, "N",
               "Operations per second of its disk (200, 5K; off) [the server's]");
}

void Grammar::add_shape(CLI::App* command, VmShape& shape) {
    command->add_option("--cpus", shape.cpus, "Virtual CPUs")->type_name("N")->capture_default_str();
    add_parsed(command, "--mem", shape.mem_mib, parse_mebibytes, "MIB",
               "Memory in MiB, or as 512M, 4G [2048]");
    add_parsed(command, "--disk", shape.disk_mib, parse_mebibytes, "MIB",
               "Size of the root disk [the image's]");
    add_repeated(command, "--label", shape.labels, "K=V", "Label for lists; repeatable");
    command->add_option("--image", shape.image, "Root file system to start from [the server's default]")
        ->type_name("NAME");
    add_network(command, "--network", shape.network);
    add_parsed(command, "--idle-suspend", shape.idle_suspend, parse_interval, "TIME",
               "Suspend it whenever it was idle so long (10m) [off]");
    add_repeated(command, "--port", shape.ports, "HOST:GUEST",
                 "Port of the server that leads to one of the VM; repeatable");
    add_disk_limits(command, shape.disk_bandwidth, shape.disk_iops);
    command->add_flag("--boot", shape.boot, "Boot it, even if there is a template to wake from");
}

void Grammar::add_vm_commands() {
    {
        auto [command, value] = add<Create>("create", "Create a VM and wait until it answers");
        command->add_option("NAME", value->name, "Name of the new VM")->required()->type_name("");
        add_shape(command, value->shape);
        add_repeated(command, "-e,--env", value->shape.env, "K=V",
                     "Environment of every command in the VM; repeatable");
    }
    add_for_vm<Destroy>("destroy", "Remove a VM and its disk");
    {
        auto [command, value] = add<List>("list", "List VMs");
        add_repeated(command, "--label", value->labels, "K=V", "Only VMs with this label; repeatable");
        add_repeated(command, "--state", value->states, "STATE",
                     "Only VMs in this state (running, stopped, ...); repeatable");
        command->add_option("--prefix", value->prefix, "Only VMs whose names begin so")->type_name("TEXT");
        command->add_flag("-q,--quiet", value->names_only, "Print names only, one a line");
    }
    {
        auto [command, value] = add<Info>("info", "Show one VM");
        add_vm(command, value->vm);
        command->add_flag("-a,--all", value->all, "Also disk, address, uptime and what it uses");
    }
    add_for_vm<Start>("start", "Boot a stopped VM");
    {
        auto [command, value] = add<Set>(
            "set", "Change a VM's memory and disk limits, also while it runs: noid set [NAME] OPTIONS");
        add_vm(command, value->vm);
        add_parsed(command, "--balloon", value->change.balloon_mib, parse_balloon, "MIB",
                   "Memory that the guest shall give back to the host (512M, 1G; off)");
        add_disk_limits(command, value->change.disk_bytes_per_second, value->change.disk_ops_per_second);
    }
    {
        auto [command, value] = add<Stop>("stop", "Shut a VM down, keeping its disk");
        add_vm(command, value->vm);
        command->add_flag("-f,--force", value->force, "Power off without asking the guest");
    }
    add_for_vm<Pause>("pause", "Halt a VM's processors, keeping its memory");
    add_for_vm<Resume>("resume", "Let a paused or suspended VM run on");
    {
        auto [command, value] = add<Suspend>("suspend", "Put a VM's memory on disk until it is needed");
        add_vm(command, value->vm);
        add_parsed(command, "--idle", value->idle, parse_interval, "TIME",
                   "Not now, but whenever it was idle so long (10m; off)");
    }
}

void Grammar::add_command_options(CLI::App* command, CommandOptions& options) {
    add_repeated(command, "-e,--env", options.env, "K=V", "Environment variable of the command; repeatable");
    command->add_option("-w,--cwd", options.cwd, "Working directory [the user's home]")->type_name("DIR");
    command->add_option("-u,--user", options.user, "User, or UID[:GID] [root]")->type_name("USER");
    command->add_flag("-t,--tty", options.tty, "Give the command a terminal");
    auto* interactive = command->add_flag("-i,--interactive", options.interactive,
                                          "Pass stdin on even when it is a terminal");
    command->add_flag("-n,--no-stdin", options.no_input, "Do not read stdin")->excludes(interactive);
    add_parsed(command, "--timeout", options.timeout, parse_duration, "TIME",
               "Kill the command after this time (30, 1.5s, 5m); exit code 124");
    add_parsed(command, "--hold", options.hold, parse_duration, "TIME",
               "How long the command waits for a lost connection to come back [60s]");
}

void Grammar::add_exec_commands() {
    {
        auto [command, value] = add<Exec>(
            "exec", "Run a command in a VM: noid exec [NAME] -- COMMAND ARG... (without one: console)");
        add_vm(command, value->vm);
        add_command_options(command, value->options);
        command->add_option("--label", value->options.label, "Text to find it by in `noid ps`")
            ->type_name("TEXT");
        command->add_flag("-d,--detach", value->detach, "Start it, print its session and return");
    }
    {
        auto [command, value] = add<Console>("console", "Use a VM's serial console; a line `exit` leaves it");
        add_vm(command, value->vm);
        add_repeated(command, "-e,--env", value->env, "K=V",
                     "Start a shell with this variable instead; repeatable");
    }
    {
        auto [command, value] =
            add<Run>("run", "Create a VM, run a command in it, destroy it: noid run -- COMMAND ARG...");
        command->add_option("--name", value->name, "Name of the VM [run-<random>]")->type_name("NAME");
        command->add_flag("--keep", value->keep, "Keep the VM afterwards");
        add_shape(command, value->shape);
        add_command_options(command, value->options);
    }
    add_for_vm<Ps>("ps", "List the commands that run in a VM");
    {
        auto [command, value] =
            add<cli::Attach>("attach", "Come back to a running command: noid attach [NAME] SESSION");
        auto words = std::make_shared<std::vector<std::string>>();
        command->add_option("WORDS", *words, "[NAME] SESSION, as `noid ps` shows it")
            ->required()
            ->expected(1, 2);
        command->add_option("--from-stdout", value->have_out, "Bytes of stdout that are there already")
            ->type_name("N");
        command->add_option("--from-stderr", value->have_err, "Bytes of stderr that are there already")
            ->type_name("N");
        command->add_flag("-n,--no-stdin", value->no_input, "Do not read stdin");
        command->parse_complete_callback([words, value] {
            value->session = words->back();
            if (words->size() == 2) value->vm = words->front();
        });
    }
}

void Grammar::add_transfer_commands() {
    {
        auto [command, value] =
            add<Copy>("cp", "Copy files and directories: noid cp NAME:PATH HOSTPATH, or the reverse");
        command->add_option("FROM", value->from, "HOSTPATH, NAME:PATH, :PATH (chosen VM), or - for stdin")
            ->required()
            ->type_name("");
        command->add_option("TO", value->to, "NAME:PATH, HOSTPATH, or - for stdout")
            ->required()
            ->type_name("");
    }
    {
        auto [command, value] = add<Logs>("logs", "Print what a VM wrote to its serial console");
        add_vm(command, value->vm);
        command->add_flag("-f,--follow", value->follow, "Go on as more comes");
        command->add_option("--tail", value->tail_bytes, "Only the last N bytes")->type_name("N");
    }
    {
        auto [command, value] =
            add<Forward>("forward", "Make a port of a VM reachable here: noid forward [NAME] [LOCAL:]PORT");
        command->add_option("WORDS", value->words, "[NAME] [LOCAL:]PORT; LOCAL 0 lets the system choose")
            ->required()
            ->expected(1, 2);
        command->add_option("--address", value->address, "Local address to listen on")
            ->type_name("ADDRESS")
            ->capture_default_str();
    }
}

void Grammar::add_network_commands() {
    {
        auto [command, value] =
            add<Policy>("policy", "Show what a VM may reach, or change it with options, also while it runs");
        add_vm(command, value->vm);
        add_network(command, "--mode", value->options);
        command->add_flag("--clear", value->clear, "Take away the rules that are there first");
    }
    {
        auto [command, value] =
            add<Expose>("expose", "Publish a port of a VM on the server: noid expose [NAME] PORT");
        add_port_of_vm(command, *value);
        add_parsed(command, "--host", value->host, parse_port, "PORT",
                   "Port of the server [one that is free]");
        command->add_flag("--public", value->is_public, "Its name asks for no token");
    }
    {
        auto [command, value] =
            add<Unexpose>("unexpose", "Take a published port back: noid unexpose [NAME] PORT");
        add_port_of_vm(command, *value);
    }
    add_for_vm<Ports>("ports", "List a VM's published ports");
}

void Grammar::add_checkpoint_commands() {
    {
        auto [checkpoint, value] = add<Checkpoint>(
            "checkpoint", "Save a VM (memory, disk and devices of one instant), or see to what was saved");
        add_creation(checkpoint, *value);
        add_parsed(checkpoint, "--every", value->every, parse_interval, "TIME",
                   "Let the server save it so often from now on (30s, 5m; off)");
        checkpoint->add_option("--keep", value->keep, "With --every: how many of these stay [10]")
            ->type_name("N")
            ->check(CLI::Range(1, 10000))
            ->needs("--every");
        checkpoint->require_subcommand(0, 1);
        add_checkpoint_subcommands(checkpoint);
    }
    add_for_vm<Checkpoints>("checkpoints", "List a VM's checkpoints");
    {
        auto [command, value] =
            add<Restore>("restore", "Put a VM back to a checkpoint: noid restore [NAME] CHECKPOINT");
        add_checkpoint_of_vm(command, *value);
        auto* as =
            command->add_option("--as", value->as, "Make a new VM of this name instead")->type_name("NEW");
        command
            ->add_flag("--discard-present", value->discard_present,
                       "Do not save the VM as it is before it goes back")
            ->excludes(as);
    }
    {
        auto [command, value] = add<Fork>("fork", "Clone a running VM");
        add_vm(command, value->vm);
        auto* count = command->add_option("--count", value->count, "How many clones")
                          ->type_name("N")
                          ->check(CLI::Range(1, 64))
                          ->capture_default_str();
        add_repeated(command, "--as", value->as, "NEW", "Name of a clone; repeatable")->excludes(count);
    }
}

void Grammar::add_checkpoint_subcommands(CLI::App* parent) {
    {
        auto [command, value] = add<Checkpoint>("create", "Save a VM now", parent);
        add_creation(command, *value);
    }
    {
        auto [command, value] = add<Checkpoints>("list", "List a VM's checkpoints", parent);
        add_vm(command, value->vm);
        command->parse_complete_callback([value] { value->details = true; });
    }
    {
        auto [command, value] = add<ShowCheckpoint>("info", "Show one: info [NAME] CHECKPOINT", parent);
        add_checkpoint_of_vm(command, *value);
    }
    {
        auto [command, value] =
            add<RenameCheckpoint>("rename", "Give one another name: rename [NAME] CHECKPOINT NEW", parent);
        auto words = std::make_shared<std::vector<std::string>>();
        command->add_option("WORDS", *words, "[NAME] CHECKPOINT NEW; an empty NEW takes the name away")
            ->required()
            ->expected(2, 3);
        command->parse_complete_callback([words, value] {
            value->name = words->back();
            value->checkpoint = (*words)[words->size() - 2];
            if (words->size() == 3) value->vm = words->front();
        });
    }
    {
        auto [command, value] =
            add<DeleteCheckpoint>("delete", "Remove one: delete [NAME] CHECKPOINT", parent);
        add_checkpoint_of_vm(command, *value);
    }
    {
        auto [command, value] = add<PruneCheckpoints>("prune", "Remove old ones", parent);
        add_vm(command, value->vm);
        command->add_option("--keep", value->keep, "Keep the newest N")->type_name("N");
        add_parsed(command, "--older-than", value->older_than, parse_duration, "TIME",
                   "Remove those older than this (12h, 7d)");
        command->add_flag("--automatic", value->automatic_only, "Only those that the server made by itself");
    }
    {
        auto [command, value] = add<ExportCheckpoint>(
            "export", "Write one into a file: export [NAME] CHECKPOINT -o FILE", parent);
        add_checkpoint_of_vm(command, *value);
        command->add_option("-o,--output", value->file, "File to write; - for stdout")
            ->required()
            ->type_name("FILE");
    }
    {
        auto [command, value] =
            add<ImportCheckpoint>("import", "Take one in that was exported: import [NAME] -i FILE", parent);
        add_vm(command, value->vm);
        command->add_option("-i,--input", value->file, "File to read; - for stdin")
            ->required()
            ->type_name("FILE");
        command->add_option("--name", value->name, "Name for the checkpoint")->type_name("NAME");
        command->add_option("--label", value->label, "Note to find it by")->type_name("TEXT");
    }
}

void Grammar::add_program_commands() {
    add<cli::Version>("version", "Show the versions of this client and of the server");
    add<Update>("update", "Say how to update this client");
    auto [command, value] = add<Completion>("completion", "Print a completion script for a shell");
    command->add_option("SHELL", value->shell, "bash, zsh or fish")
        ->required()
        ->type_name("")
        ->check(CLI::IsMember({"bash", "zsh", "fish"}));
}

bool Grammar::takes_rest(std::span<const std::string> words) {
    return std::ranges::any_of(words,
                               [](const std::string& word) { return word == "exec" || word == "run"; });
}

std::variant<Invocation, Notice> Grammar::parse(std::vector<std::string> words,
                                                std::vector<std::string> rest) {
    std::ranges::reverse(words);  // as CLI11 takes them
    try {
        app_.parse(std::move(words));
    } catch (const CLI::CallForHelp&) {
        const auto* asked = &app_;
        while (!asked->get_subcommands().empty()) asked = asked->get_subcommands().front();
        return Notice{asked->help(), false, 0};
    } catch (const CLI::CallForVersion&) {
        return Notice{fmt::format("noid {}\n", version), false, 0};
    } catch (const CLI::ParseError& error) {
        return Notice{fmt::format("error: {}\n\nFor more information, try '--help'.\n", error.what()), true,
                      2};
    }
    if (app_.get_subcommands().empty()) return Notice{app_.help(), true, 2};
    if (auto* exec = std::get_if<Exec>(&invocation_.command)) exec->options.command = std::move(rest);
    if (auto* run = std::get_if<Run>(&invocation_.command)) {
        if (rest.empty() && !run->options.tty)
            return Notice{"error: no command to run\n\nUsage: noid run [OPTIONS] -- COMMAND ARG...\n", true,
                          2};
        run->options.command = std::move(rest);
    }
    return std::move(invocation_);
}

// `noid help` and `noid help COMMAND...` in the words that CLI11 knows.
void turn_help_command_into_flag(std::vector<std::string>& words) {
    if (words.empty() || words.front() != "help") return;
    words.erase(words.begin());
    words.push_back("--help");
}

CommandDescription describe(const CLI::App& app, std::vector<std::string> path) {
    CommandDescription description;
    description.path = std::move(path);
    description.description = app.get_description();
    for (const auto* option : app.get_options()) {
        if (option->get_positional()) {
            const auto& about = option->get_description();
            description.takes_vm |= about.starts_with("VM") || about.starts_with(vm_metavar);
            continue;
        }
        CommandDescription::Option described;
        for (const auto& name : option->get_snames()) described.names.push_back("-" + name);
        for (const auto& name : option->get_lnames()) described.names.push_back("--" + name);
        described.description = option->get_description();
        described.takes_value = option->get_items_expected_max() > 0;
        description.options.push_back(std::move(described));
    }
    return description;
}

void describe_below(const CLI::App& app, const std::vector<std::string>& path,
                    std::vector<CommandDescription>& all) {
    all.push_back(describe(app, path));
    for (const auto* sub : app.get_subcommands([](const CLI::App*) { return true; })) {
        auto below = path;
        below.push_back(sub->get_name());
        describe_below(*sub, below, all);
    }
}

}  // namespace

std::variant<Invocation, Notice> parse_arguments(std::vector<std::string> arguments) {
    turn_help_command_into_flag(arguments);
    std::vector<std::string> rest;
    const auto dashes = std::ranges::find(arguments, "--");
    if (dashes != arguments.end() && Grammar::takes_rest({arguments.begin(), dashes})) {
        rest.assign(std::next(dashes), arguments.end());
        arguments.erase(dashes, arguments.end());
    }
    Grammar grammar;
    return grammar.parse(std::move(arguments), std::move(rest));
}

std::vector<CommandDescription> describe_commands() {
    const Grammar grammar;
    std::vector<CommandDescription> all;
    describe_below(grammar.app(), {}, all);
    return all;
}

}  // namespace noid::cli
