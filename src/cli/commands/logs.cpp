#include <fmt/format.h>
#include <unistd.h>

#include <boost/json.hpp>

#include "cli/commands/execute.hpp"
#include "cli/local_output.hpp"
#include "cli/vm_request.hpp"
#include "wire/utf8.hpp"

namespace noid::cli {
namespace {

using namespace std::chrono_literals;

}  // namespace

Awaitable<Result<int>> execute(const Context& context, Logs command) {
    auto vm = find_vm(context, command.vm);
    if (!vm) co_return fail(vm.error());
    auto output = LocalOutput::open(context.executor, STDOUT_FILENO);
    if (!output) co_return fail(output.error());

    std::string query;
    if (command.tail_bytes) query += fmt::format("&tail={}", *command.tail_bytes);
    if (command.follow) query += "&follow=true";
    if (!query.empty()) query.front() = '?';
    // Under --json one object for each piece, as it comes.
    const auto write = [&](std::string_view bytes) -> Awaitable<Result<void>> {
        if (bytes.empty()) co_return Result<void>{};
        std::string line;
        if (context.json) {
            line = boost::json::serialize(boost::json::object{{"output", wire::to_utf8(bytes)}}) + "\n";
            bytes = line;
        }
        co_return co_await output->write(bytes);
    };
    HttpRequest request{HttpMethod::get, vm->target + "/logs" + query};
    request.download = write;
    if (command.follow) request.read_timeout = 0ms;
    auto answer = co_await vm->client.call(std::move(request));
    if (!answer) co_return fail(answer.error());
    co_return 0;
}

}  // namespace noid::cli
