#pragma once

#include <string>
#include <string_view>

#include "base/async.hpp"
#include "cli/client_config.hpp"
#include "cli/dial.hpp"
#include "cli/environment.hpp"
#include "cli/signals.hpp"

namespace noid::cli {

// What every command gets.
struct Context {
    asio::any_io_executor executor;
    const Environment& environment;
    Signals& signals;
    AccountFlags account;
    bool json = false;  // results as JSON on stdout, errors as JSON on stderr, no progress

    // Prints to stderr under NOID_VERBOSE, else empty.
    [[nodiscard]] Trace trace() const;
};

// Results go to stdout, everything else to stderr.
void print(std::string_view text);
void print_line(std::string_view text);
void print_notice(std::string_view line);

}  // namespace noid::cli
