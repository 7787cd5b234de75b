#include "cli/context.hpp"

#include <fmt/format.h>

#include <cstdio>

namespace noid::cli {

Trace Context::trace() const {
    if (!environment.truthy("NOID_VERBOSE")) return {};
    return [](const std::string& text) { print_notice("[ws] " + text); };
}

void print(std::string_view text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
}

void print_line(std::string_view text) {
    print(fmt::format("{}\n", text));
}

void print_notice(std::string_view line) {
    // In one write: other output may come between two.
    const auto text = fmt::format("{}\n", line);
    std::fwrite(text.data(), 1, text.size(), stderr);
}

}  // namespace noid::cli
