#include <fmt/format.h>

#include <boost/json/serialize.hpp>

#include "cli/commands/execute.hpp"
#include "cli/failure.hpp"
#include "cli/vm_request.hpp"
#include "wire/resources.hpp"

namespace noid::cli {

Awaitable<Result<int>> execute(const Context& context, Set command) {
    if (command.change == wire::ChangeVm{})
        co_return fail(Errc::invalid, "nothing to set: give --balloon, --disk-bandwidth or --disk-iops");
    auto vm = find_vm(context, command.vm);
    if (!vm) co_return fail(vm.error());
    HttpRequest request{HttpMethod::patch, vm->target, boost::json::serialize(wire::to_json(command.change))};
    auto changed = co_await ask<wire::VmInfo>(*vm, std::move(request), "VM");
    if (!changed) co_return fail(changed.error());
    if (context.json) {
        print_line(boost::json::serialize(changed->json));
        co_return 0;
    }
    const auto rate = [](const std::optional<std::uint64_t>& value, std::string_view unit) {
        return value ? fmt::format("{} {}/s", *value, unit) : std::string{"not limited"};
    };
    print_line(fmt::format("VM '{}': balloon {} MiB, disk {}, {}", vm->name,
                           changed->value.balloon_mib.value_or(0),
                           rate(changed->value.disk_bytes_per_second, "bytes"),
                           rate(changed->value.disk_ops_per_second, "operations")));
    co_return 0;
}

}  // namespace noid::cli
