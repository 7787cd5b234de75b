#pragma once

#include <string>
#include <variant>
#include <vector>

#include "cli/client_config.hpp"
#include "cli/commands.hpp"

namespace noid::cli {

struct Invocation {
    AccountFlags account;
    bool json = false;
    Command command;
};

// Something to print instead of doing anything.
struct Notice {
    std::string text;
    bool is_error = false;  // to stderr
    int exit_code = 0;
};

// Reads the arguments after the program's name. Wrong usage is a Notice "error: ..." with exit code
// 2; no command at all is the help on stderr with exit code 2.
[[nodiscard]] std::variant<Invocation, Notice> parse_arguments(std::vector<std::string> arguments);

// The commands and their options, for shell completion.
struct CommandDescription {
    struct Option {
        std::vector<std::string> names;  // "-e", "--env"
        std::string description;
        bool takes_value = false;
    };
    std::vector<std::string> path;  // {"auth", "setup"}; empty: the program itself
    std::string description;
    std::vector<Option> options;
    bool takes_vm = false;  // a VM's name is its first word
};
[[nodiscard]] std::vector<CommandDescription> describe_commands();

}  // namespace noid::cli
