#include "cli/completion_script.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <ranges>

namespace noid::cli {
namespace {

using Commands = std::vector<CommandDescription>;

constexpr std::string_view bash_template =
    R"SH(# bash completion for noid; load it with: source <(noid completion bash)
_noid() {
    local current=${COMP_WORDS[COMP_CWORD]} place='' word words='' vm=0 i
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        [ "$word" = -- ] && return 0
        case "${place:+$place }$word" in
@PLACES@) place="${place:+$place }$word" ;;
        esac
    done
    case "$place" in
@CASES@    esac
    [ "$vm" = 1 ] && [ "${current#-}" = "$current" ] && words="$words $(noid list --quiet 2>/dev/null)"
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}
complete -o default -F _noid noid
)SH";

constexpr std::string_view zsh_template = R"SH(#compdef noid
# zsh completion for noid; load it with: source <(noid completion zsh)
_noid() {
    local place='' word
    local -i vm=0
    local -a entries
    for word in "${(@)words[2,CURRENT-1]}"; do
        [[ "$word" == -- ]] && { _files; return }
        case "${place:+$place }$word" in
@PLACES@) place="${place:+$place }$word" ;;
        esac
    done
    case "$place" in
@CASES@    esac
    _describe -t commands noid entries
    if (( vm )) && [[ "$PREFIX" != -* ]]; then
        entries=(${(f)"$(noid list --quiet 2>/dev/null)"})
        _describe -t vms VM entries
    fi
    [[ "$place" == cp ]] && _files
    return 0
}
if [[ "${funcstack[1]}" == _noid ]]; then _noid "$@"; else compdef _noid noid; fi
)SH";

// Within single quotes of bash and zsh.
std::string shell_quoted(std::string_view text) {
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

// The same for fish, which knows \' and \\ within them.
std::string fish_quoted(std::string_view text) {
    std::string out = "'";
    for (const char c : text) {
        if (c == '\'' || c == '\\') out += '\\';
        out += c;
    }
    return out + "'";
}

std::string filled(std::string_view text, std::string_view places, std::string_view cases) {
    std::string out{text};
    const auto replace = [&](std::string_view mark, std::string_view with) {
        out.replace(out.find(mark), mark.size(), with);
    };
    replace("@PLACES@", places);
    replace("@CASES@", cases);
    return out;
}

std::string words_of(const std::vector<std::string>& path) {
    return fmt::format("{}", fmt::join(path, " "));
}

std::vector<const CommandDescription*> below(const CommandDescription& parent, const Commands& all) {
    std::vector<const CommandDescription*> found;
    for (const auto& each : all) {
        if (each.path.size() == parent.path.size() + 1 &&
            std::ranges::equal(parent.path, each.path | std::views::take(parent.path.size())))
            found.push_back(&each);
    }
    return found;
}

// 'auth' | 'auth setup' | ...
std::string case_pattern_of_all(const Commands& all) {
    std::vector<std::string> places;
    for (const auto& command : all) {
        if (!command.path.empty()) places.push_back(shell_quoted(words_of(command.path)));
    }
    return fmt::format("        {}", fmt::join(places, " | "));
}

std::string bash(const Commands& all) {
    std::string cases;
    for (const auto& command : all) {
        std::vector<std::string> words;
        for (const auto* sub : below(command, all)) words.push_back(sub->path.back());
        for (const auto& option : command.options)
            words.insert(words.end(), option.names.begin(), option.names.end());
        cases += fmt::format("    {}) words={} vm={} ;;\n", shell_quoted(words_of(command.path)),
                             shell_quoted(words_of(words)), command.takes_vm ? 1 : 0);
    }
    return filled(bash_template, case_pattern_of_all(all), cases);
}

// "word:description" as _describe takes it.
std::string zsh_entry(std::string_view word, std::string_view description) {
    return shell_quoted(fmt::format("{}:{}", word, description));
}

std::string zsh(const Commands& all) {
    std::string cases;
    for (const auto& command : all) {
        std::vector<std::string> entries;
        for (const auto* sub : below(command, all))
            entries.push_back(zsh_entry(sub->path.back(), sub->description));
        for (const auto& option : command.options) {
            for (const auto& name : option.names) entries.push_back(zsh_entry(name, option.description));
        }
        cases += fmt::format("    {}) vm={} entries=(\n", shell_quoted(words_of(command.path)),
                             command.takes_vm ? 1 : 0);
        for (const auto& entry : entries) cases += fmt::format("        {}\n", entry);
        cases += "    ) ;;\n";
    }
    return filled(zsh_template, case_pattern_of_all(all), cases);
}

std::string fish_condition(const CommandDescription& command, const Commands& all) {
    if (command.path.empty()) return "__fish_use_subcommand";
    std::vector<std::string> conditions;
    for (const auto& word : command.path)
        conditions.push_back(fmt::format("__fish_seen_subcommand_from {}", word));
    std::vector<std::string> subs;
    for (const auto* sub : below(command, all)) subs.push_back(sub->path.back());
    if (!subs.empty())
        conditions.push_back(fmt::format("not __fish_seen_subcommand_from {}", fmt::join(subs, " ")));
    return fmt::format("{}", fmt::join(conditions, "; and "));
}

std::string fish(const Commands& all) {
    std::string out =
        "# fish completion for noid; load it with: noid completion fish | source\n"
        "complete -c noid -f\n"
        "complete -c noid -n '__fish_seen_subcommand_from cp' -F\n";
    for (const auto& command : all) {
        const auto condition = fish_quoted(fish_condition(command, all));
        for (const auto* sub : below(command, all)) {
            out += fmt::format("complete -c noid -n {} -a {} -d {}\n", condition, sub->path.back(),
                               fish_quoted(sub->description));
        }
        for (const auto& option : command.options) {
            out += fmt::format("complete -c noid -n {}", condition);
            for (const auto& name : option.names)
                out += name.starts_with("--") ? fmt::format(" -l {}", name.substr(2))
                                              : fmt::format(" -s {}", name.substr(1));
            out +=
                fmt::format("{} -d {}\n", option.takes_value ? " -r" : "", fish_quoted(option.description));
        }
        if (command.takes_vm)
            out +=
                fmt::format("complete -c noid -n {} -a '(noid list --quiet 2>/dev/null)' -d VM\n", condition);
    }
    return out;
}

}  // namespace

std::string completion_script(std::string_view shell, const Commands& commands) {
    if (shell == "fish") return fish(commands);
    if (shell == "zsh") return zsh(commands);
    return bash(commands);
}

}  // namespace noid::cli
