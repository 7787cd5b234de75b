#include <fmt/format.h>

#include <boost/json/serialize.hpp>

#include "cli/commands/execute.hpp"
#include "cli/failure.hpp"
#include "cli/vm_creation.hpp"
#include "cli/vm_policy.hpp"

namespace noid::cli {

Awaitable<Result<int>> execute(const Context& context, Create command) {
    auto request = creation_request(command.name, command.shape);
    if (!request) co_return fail(request.error());
    auto client = ApiClient::open(context);
    if (!client) co_return fail(client.error());
    auto created = co_await create_vm(context, *client, std::move(*request));
    if (!created) co_return fail(created.error());
    if (command.shape.idle_suspend) {
        const VmOnServer vm{*client, created->info.name, "/v1/vms/" + created->info.name};
        VmPolicyChange change;
        change.idle_suspend = command.shape.idle_suspend;
        auto policy = co_await change_policy(vm, change);
        if (!policy) {
            co_return fail(std::move(policy).error().at(
                fmt::format("VM '{}' was created, but will not be suspended by itself", created->info.name)));
        }
    }
    if (context.json) {
        print_line(boost::json::serialize(created->json));
    } else {
        print_line(
            fmt::format("VM '{}' created (state: {})", created->info.name, printable(created->info.state)));
    }
    co_return 0;
}

}  // namespace noid::cli
