#include <fmt/format.h>

#include <boost/json.hpp>

#include "cli/commands/execute.hpp"
#include "cli/version.hpp"

namespace noid::cli {

Awaitable<Result<int>> execute(const Context& context, Update) {
    constexpr auto how = "git pull && cmake --preset release && cmake --build build/release --target noid";
    if (context.json) {
        print_line(boost::json::serialize(boost::json::object{{"version", version}, {"update_with", how}}));
        co_return 0;
    }
    print_line(fmt::format("noid {} comes from a source tree. To update it, run there:", version));
    print_line(fmt::format("    {}", how));
    print_line("and install build/release/bin/noid where it is now.");
    co_return 0;
}

}  // namespace noid::cli
