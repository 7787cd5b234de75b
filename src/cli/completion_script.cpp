#include "cli/completion_script.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace noid::cli {
namespace {

// Within single quotes of any of the three shells.
std::string quoted(std::string_view text) {
    std::string out = "'";
    for (const char c : text) {
        if (c == '\'') {
            out += "'\\''";
        } else {
            out += c;
        }
    }
    return out + "'";
}

std::vector<const CommandDescription*> below(const CommandDescription& parent,
                                             const std::vector<CommandDescription>& all) {
    std::vector<const CommandDescription*> found;
    for (const auto& each : all) {
        if (each.path.size() == parent.path.size() + 1 &&
            std::ranges::equal(parent.path, each.path | std::views::take(parent.path.size())))
            found.push_back(&each);
    }
    return found;
}

std::string words_of(const CommandDescription& command, const std::vector<CommandDescription>& all) {
    std::vector<std::string> words;
    for (const auto* sub : below(command, all)) words.push_back(sub->path.back());
    for (const auto& option : command.options)
        words.insert(words.end(), option.names.begin(), option.names.end());
    return fmt::format("{}", fmt::join(words, " "));
}

std::string bash(const std::vector<CommandDescription>& all) {
    std::string cases;
    for (const auto& command : all) {
        cases += fmt::format("        {}) words={}; vm={} ;;\n",
                             quoted(fmt::format("{}", fmt::join(command.path, " "))),
                             quoted(words_of(command, all)), command.takes_vm ? 1 : 0);
    }
    return fmt::format(R"(# bash completion for noid; load it with: source <(noid completion bash)
_noid() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} path='' word words='' vm=0 i
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${{COMP_WORDS[i]}}
        [ "$word" = -- ] && return 0
        case "$word" in
        -*) ;;
        *)
            case " {} " in
            *" ${{path:+$path }}$word,"*) path="${{path:+$path }}$word" ;;
            esac
            ;;
        esac
    done
    case "$path" in
{}    esac
    [ "$vm" = 1 ] && [ "${{current#-}}" = "$current" ] && words="$words $(noid list --quiet 2>/dev/null)"
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}
}
complete -o default -F _noid noid
)",
                       [&] {
    std::string paths;
    for (const auto& command : all) {
        if (!command.path.empty()) paths += fmt::format(" {}, ", fmt::join(command.path, " "));
    }
    return paths;
                       }(),
                       cases);
}

std::string zsh() {
    return R"(#compdef noid
# zsh completion for noid; load it with: source <(noid completion zsh)
autoload -U +X bashcompinit && bashcompinit
)";
}

std::string fish_condition(const CommandDescription& command, const std::vector<CommandDescription>& all) {
    if (command.path.empty()) return "__fish_use_subcommand";
    std::string condition = fmt::format("__fish_seen_subcommand_from {}", command.path.back());
    std::vector<std::string> subs;
    for (const auto* sub : below(command, all)) subs.push_back(sub->path.back());
    if (!subs.empty())
        condition += fmt::format("; and not __fish_seen_subcommand_from {}", fmt::join(subs, " "));
    return condition;
}

std::string fish(const std::vector<CommandDescription>& all) {
    std::string out =
        "# fish completion for noid; load it with: noid completion fish | source\ncomplete -c noid -f\n";
    for (const auto& command : all) {
        const auto condition = quoted(fish_condition(command, all));
        for (const auto* sub : below(command, all)) {
            out += fmt::format("complete -c noid -n {} -a {} -d {}\n", condition, sub->path.back(),
                               quoted(sub->description));
        }
        for (const auto& option : command.options) {
            out += fmt::format("complete -c noid -n {}", condition);
            for (const auto& name : option.names)
                out += name.starts_with("--") ? fmt::format(" -l {}", name.substr(2))
                                              : fmt::format(" -s {}", name.substr(1));
            out += fmt::format("{} -d {}\n", option.takes_value ? " -r" : "", quoted(option.description));
        }
        if (command.takes_vm)
            out +=
                fmt::format("complete -c noid -n {} -a '(noid list --quiet 2>/dev/null)' -d VM\n", condition);
    }
    return out;
}

}  // namespace

std::string completion_script(std::string_view shell, const std::vector<CommandDescription>& commands) {
    if (shell == "fish") return fish(commands);
    if (shell == "zsh") return zsh() + bash(commands);
    return bash(commands);
}

}  // namespace noid::cli
