#include "agent/boot_options.hpp"

#include <optional>

#include "agent/text_file.hpp"

namespace noid::agent {

namespace {

std::optional<std::string_view> value_of(std::string_view word, std::string_view key) {
    if (!word.starts_with(key)) return std::nullopt;
    return word.substr(key.size());
}

bool is_reset_by_keyboard_controller(std::string_view modes) {
    // A list such as "k" or "t,k"; the kernel looks at each entry's first letter.
    while (!modes.empty()) {
        if (modes.front() == 'k') return true;
        const auto comma = modes.find(',');
        if (comma == std::string_view::npos) break;
        modes.remove_prefix(comma + 1);
    }
    return false;
}

}  // namespace

BootOptions parse_boot_options(std::string_view command_line) {
    constexpr std::string_view blanks = " \t\n";
    BootOptions options;
    while (true) {
        const auto begin = command_line.find_first_not_of(blanks);
        if (begin == std::string_view::npos) return options;
        command_line.remove_prefix(begin);
        const auto word = command_line.substr(0, command_line.find_first_of(blanks));
        command_line.remove_prefix(word.size());

        // What follows a lone "--" is for the init program.
        if (word == "--") return options;
        if (const auto root = value_of(word, "noid.root=")) options.root = *root;
        if (const auto init = value_of(word, "noid.init=")) options.init = *init == "agent" ? "" : *init;
        if (const auto modes = value_of(word, "reboot=")) {
            options.power_off =
                is_reset_by_keyboard_controller(*modes) ? PowerOff::reset : PowerOff::power_off;
        }
    }
}

Result<BootOptions> read_boot_options() {
    const auto text = read_text_file("/proc/cmdline", 4096);  // the kernel's own limit is half of that
    if (!text) return fail(text.error());
    return parse_boot_options(*text);
}

}  // namespace noid::agent
