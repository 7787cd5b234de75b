#include "cli/vm_request.hpp"

#include <fmt/format.h>

#include <boost/json.hpp>

#include "cli/active_vm.hpp"
#include "cli/progress.hpp"

namespace noid::cli {
namespace {

using namespace std::chrono_literals;

constexpr auto change_limit = 180'000ms;  // a start waits for the guest to answer

}  // namespace

Result<VmOnServer> find_vm(const Context& context, const VmArgument& argument) {
    auto name = vm_or_active(argument, context.environment);
    if (!name) return fail(name.error());
    auto target = vm_target(*name);
    if (!target) return fail(target.error());
    auto client = ApiClient::open(context);
    if (!client) return fail(client.error());
    return VmOnServer{std::move(*client), std::move(*name), std::move(*target)};
}

Awaitable<Result<int>> change_state(const Context& context, VmArgument argument, std::string verb,
                                    std::string doing, std::string done) {
    auto vm = find_vm(context, argument);
    if (!vm) co_return fail(vm.error());
    HttpRequest request{HttpMethod::post, fmt::format("{}/{}", vm->target, verb)};
    request.read_timeout = change_limit;
    Result<HttpAnswer> answer;
    {
        const Spinner spinner{context.executor, fmt::format("{} VM '{}'", doing, vm->name),
                              can_draw_progress(context.json)};
        answer = co_await vm->client.call(std::move(request));
    }
    if (!answer) co_return fail(answer.error());
    if (!context.json) {
        print_line(fmt::format("VM '{}' {}", vm->name, done));
    } else if (!answer->body.empty()) {
        print_line(answer->body);
    } else {
        print_line(boost::json::serialize(boost::json::object{{"name", vm->name}}));
    }
    co_return 0;
}

}  // namespace noid::cli
