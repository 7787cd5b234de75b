#include "migrate_command.hpp"

#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <utility>
#include <vector>

#include "migrate/take_over.hpp"
#include "server_process.hpp"

namespace noid::server {
namespace {

namespace fs = std::filesystem;
using migrate::Outcome;

// Where the original keeps its data: below the home of whoever runs it, which its installer makes
// `firecracker`.
fs::path usual_place() {
    std::error_code unreadable;
    if (const char* home = std::getenv("HOME")) {
        const fs::path own = fs::path{home} / ".noid";
        if (fs::exists(own / "noid.db", unreadable)) return own;
    }
    return "/home/firecracker/.noid";
}

Result<std::vector<Outcome>> carry_out(const fs::path& from, const config::ServerConfig& config) {
    std::error_code unreadable;
    if (fs::equivalent(from, config.paths.data_dir, unreadable)) {
        return fail(Errc::invalid, fmt::format("{} is this server's own data directory: choose another one "
                                               "([paths] data_dir), the original's stays as it is",
                                               from.string()));
    }
    const auto original = migrate::read_original(from);
    if (!original) return fail(original.error());
    auto to = vm::DataDirectory::open(config.paths.data_dir);
    if (!to) return fail(std::move(to.error()));
    auto outcomes = migrate::take_over(*original, *to);
    if (auto given = give_to_server_user(config); !given) return fail(std::move(given.error()));
    return outcomes;
}

bool report(const std::vector<Outcome>& outcomes) {
    bool left = false;
    for (const auto& outcome : outcomes) {
        switch (outcome.kind) {
            case Outcome::Kind::taken:
                fmt::print("taken    {}\n", outcome.what);
                break;
            case Outcome::Kind::there_already:
                fmt::print("present  {}\n", outcome.what);
                break;
            case Outcome::Kind::left:
                left = true;
                fmt::print("left     {}: {}\n", outcome.what, outcome.why);
                break;
        }
    }
    if (outcomes.empty()) fmt::print("There is nothing to take over.\n");
    return left;
}

}  // namespace

int migrate(const config::ConfigSource& source, const std::optional<std::string>& from) {
    const auto config = config::load_server_config(source, true);
    if (!config) {
        fmt::print(stderr, "Error: {}\n", config.error().what);
        return 2;
    }
    const auto place = from ? fs::path{*from} : usual_place();
    const auto outcomes = carry_out(place, *config);
    if (!outcomes) {
        fmt::print(stderr, "Error: {}\n", outcomes.error().full());
        return 1;
    }
    return report(*outcomes) ? 1 : 0;
}

}  // namespace noid::server
