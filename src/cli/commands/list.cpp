#include <algorithm>
#include <boost/json.hpp>
#include <map>

#include "cli/api_client.hpp"
#include "cli/commands/execute.hpp"
#include "cli/failure.hpp"
#include "cli/table.hpp"
#include "cli/vm_creation.hpp"
#include "wire/vm.hpp"

namespace noid::cli {
namespace {

// Filtered here: an older server ignores what it is asked in a query.
bool is_wanted(const wire::VmInfo& vm, const List& filters,
               const std::map<std::string, std::string>& labels) {
    if (!vm.name.starts_with(filters.prefix)) return false;
    if (!filters.states.empty() && std::ranges::find(filters.states, vm.state) == filters.states.end())
        return false;
    return std::ranges::all_of(labels, [&](const auto& wanted) {
        const auto found = vm.labels.find(wanted.first);
        return found != vm.labels.end() && found->second == wanted.second;
    });
}

}  // namespace

Awaitable<Result<int>> execute(const Context& context, List command) {
    auto labels = parse_labels(command.labels);
    if (!labels) co_return fail(labels.error());
    auto client = ApiClient::open(context);
    if (!client) co_return fail(client.error());
    auto answer = co_await client->call_json(HttpRequest{HttpMethod::get, "/v1/vms"}, "VM list");
    if (!answer) co_return fail(answer.error());
    auto vms = read_list<wire::VmInfo>(*answer, "VM list");
    if (!vms) co_return fail(vms.error());

    boost::json::array json;
    Table table{{"name", "state", "cpus", "mem (MiB)", "created"}};
    for (std::size_t i = 0; i < vms->size(); ++i) {
        const auto& vm = (*vms)[i];
        if (!is_wanted(vm, command, *labels)) continue;
        json.push_back(answer->get_array()[i]);
        if (command.names_only && !context.json) print_line(printable(vm.name));
        table.add({vm.name, vm.state, std::to_string(vm.cpus), std::to_string(vm.mem_mib), vm.created_at});
    }
    if (context.json) {
        print_line(boost::json::serialize(json));
    } else if (!command.names_only) {
        print(json.empty() ? "No VMs found.\n" : table.text());
    }
    co_return 0;
}

}  // namespace noid::cli
