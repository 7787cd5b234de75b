#include "wire/signals.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

namespace noid::wire {

namespace {

// Written out, not taken from <csignal>: the numbers are those of the Linux guest, also in a client
// that runs on another system.
constexpr std::array<std::pair<std::string_view, int>, 31> signals{{
    {"SIGHUP", 1},   {"SIGINT", 2},     {"SIGQUIT", 3},  {"SIGILL", 4},     {"SIGTRAP", 5},  {"SIGABRT", 6},
    {"SIGBUS", 7},   {"SIGFPE", 8},     {"SIGKILL", 9},  {"SIGUSR1", 10},   {"SIGSEGV", 11}, {"SIGUSR2", 12},
    {"SIGPIPE", 13}, {"SIGALRM", 14},   {"SIGTERM", 15}, {"SIGSTKFLT", 16}, {"SIGCHLD", 17}, {"SIGCONT", 18},
    {"SIGSTOP", 19}, {"SIGTSTP", 20},   {"SIGTTIN", 21}, {"SIGTTOU", 22},   {"SIGURG", 23},  {"SIGXCPU", 24},
    {"SIGXFSZ", 25}, {"SIGVTALRM", 26}, {"SIGPROF", 27}, {"SIGWINCH", 28},  {"SIGIO", 29},   {"SIGPWR", 30},
    {"SIGSYS", 31},
}};

char upper(char c) noexcept {
    return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
}

bool same_word(std::string_view a, std::string_view b) noexcept {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](char x, char y) { return upper(x) == upper(y); });
}

}  // namespace

std::optional<int> parse_signal(std::string_view text) noexcept {
    int number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error == std::errc{} && end == text.data() + text.size()) {
        if (number < 1 || number > 64) return std::nullopt;
        return number;
    }
    for (const auto& [name, value] : signals) {
        if (same_word(text, name) || same_word(text, name.substr(3))) return value;
    }
    return std::nullopt;
}

std::string_view signal_name(int number) noexcept {
    for (const auto& [name, value] : signals) {
        if (value == number) return name;
    }
    return {};
}

}  // namespace noid::wire
