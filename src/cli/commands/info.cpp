#include <fmt/format.h>

#include <boost/json/serialize.hpp>
#include <string>

#include "cli/commands/execute.hpp"
#include "cli/failure.hpp"
#include "cli/progress.hpp"
#include "cli/vm_request.hpp"
#include "wire/vm.hpp"

namespace noid::cli {
namespace {

std::string human_duration(std::uint64_t seconds) {
    const auto days = seconds / 86400;
    const auto clock = fmt::format("{:02}:{:02}:{:02}", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    return days > 0 ? fmt::format("{}d {}", days, clock) : clock;
}

void print_field(std::string_view name, std::string_view value) {
    if (!value.empty()) print_line(fmt::format("{:<9}{}", fmt::format("{}:", name), printable(value)));
}

std::string describe(const wire::NetworkTraffic& traffic) {
    auto text = fmt::format("{} sent, {} received, {} connections", human_size(traffic.sent_bytes),
                            human_size(traffic.received_bytes), traffic.connections);
    if (traffic.denied_packets > 0) text += fmt::format(", {} packets refused", traffic.denied_packets);
    if (traffic.dropped_packets > 0) text += fmt::format(", {} dropped", traffic.dropped_packets);
    return text;
}

std::string describe_balloon(const wire::VmInfo& vm) {
    auto text = fmt::format("{} MiB asked for", *vm.balloon_mib);
    if (vm.guest_memory) text += fmt::format(", {} given back", human_size(vm.guest_memory->balloon_bytes));
    return text;
}

std::string describe_limits(const wire::VmInfo& vm) {
    std::string text = "disk";
    if (vm.disk_bytes_per_second) text += fmt::format(" {}/s", human_size(*vm.disk_bytes_per_second));
    if (vm.disk_ops_per_second) text += fmt::format(" {} operations/s", *vm.disk_ops_per_second);
    return text;
}

std::string describe(const wire::DeviceCounters& counters) {
    auto text = fmt::format("{} read, {} written", human_size(counters.disk_read_bytes),
                            human_size(counters.disk_written_bytes));
    if (counters.disk_errors > 0) text += fmt::format(", {} errors", counters.disk_errors);
    if (counters.seccomp_faults.value_or(0) > 0)
        text += fmt::format("; {} system calls refused", *counters.seccomp_faults);
    return text;
}

void print_rest(const wire::VmInfo& vm) {
    print_field("Uptime", vm.uptime_s ? human_duration(*vm.uptime_s) : "");
    print_field("Address", vm.address);
    print_field("Image", vm.image);
    print_field("System", vm.guest_os.value_or(""));
    print_field("Agent", vm.agent_version.value_or(""));
    print_field("VMM", vm.vmm);
    print_field("Started", vm.start);
    if (vm.disk_mib > 0) {
        auto disk = fmt::format("{} MiB", vm.disk_mib);
        if (vm.disk_used_bytes) disk += fmt::format(" ({} on the host)", human_size(*vm.disk_used_bytes));
        if (vm.guest_disk_free_bytes) disk += fmt::format(", {} free", human_size(*vm.guest_disk_free_bytes));
        print_field("Disk", disk);
    }
    if (vm.memory_used_bytes) {
        auto memory = fmt::format("{} on the host", human_size(*vm.memory_used_bytes));
        if (vm.guest_memory_available_bytes)
            memory +=
                fmt::format(", {} available in the guest", human_size(*vm.guest_memory_available_bytes));
        print_field("Used", memory);
    }
    if (vm.balloon_mib) print_field("Balloon", describe_balloon(vm));
    if (vm.disk_bytes_per_second || vm.disk_ops_per_second) print_field("Limits", describe_limits(vm));
    if (vm.devices) print_field("I/O", describe(*vm.devices));
    if (vm.traffic) print_field("Network", describe(*vm.traffic));
    if (vm.cpu_seconds) print_field("CPU", fmt::format("{:.1f} s", *vm.cpu_seconds));
    for (const auto& [key, value] : vm.labels) print_field("Label", fmt::format("{}={}", key, value));
    print_field("Reason", vm.reason);
    for (const auto& warning : vm.warnings) print_field("Warning", warning);
}

}  // namespace

Awaitable<Result<int>> execute(const Context& context, Info command) {
    auto on_server = find_vm(context, command.vm);
    if (!on_server) co_return fail(on_server.error());
    auto answer = co_await on_server->client.call_json(HttpRequest{HttpMethod::get, on_server->target}, "VM");
    if (!answer) co_return fail(answer.error());
    auto vm = read_answer<wire::VmInfo>(*answer, "VM");
    if (!vm) co_return fail(vm.error());
    if (context.json) {
        print_line(boost::json::serialize(*answer));
        co_return 0;
    }
    print_field("Name", vm->name);
    print_field("State", vm->state);
    print_field("CPUs", std::to_string(vm->cpus));
    print_field("Memory", fmt::format("{} MiB", vm->mem_mib));
    print_field("Created", vm->created_at);
    if (command.all) print_rest(*vm);
    co_return 0;
}

}  // namespace noid::cli
