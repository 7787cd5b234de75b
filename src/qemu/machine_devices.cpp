// Of a machine: what is asked of its balloon and its disk while it runs.
#include <fmt/format.h>

#include "qemu/command_line.hpp"
#include "qemu/device_answers.hpp"
#include "qemu/machine.hpp"

namespace noid::qemu {

namespace json = boost::json;

namespace {

constexpr int statistics_period_s = 10;

json::object balloon_property(std::string_view name) {
    return {{"path", fmt::format("/machine/peripheral/{}", balloon_device)}, {"property", name}};
}

std::unexpected<Error> no_balloon() {
    return fail(Errc::unsupported,
                "this machine has no balloon: it woke from a snapshot that was made without one");
}

}  // namespace

Awaitable<Result<void>> Machine::set_up_devices(MiB balloon) {
    const vmm::DiskLimit limit = spec_.disk_limit;
    if (limit != vmm::DiskLimit{}) {
        if (auto done = co_await set_disk_limit(limit); !done) co_return done;
    }
    if (!vmm::has_balloon(spec_.layout)) co_return Result<void>{};
    json::object period = balloon_property("guest-stats-polling-interval");
    period["value"] = statistics_period_s;
    auto done = co_await control_->execute("qom-set", std::move(period), command_limit);
    if (!done) co_return fail(std::move(done.error()));
    if (balloon == MiB{}) co_return Result<void>{};
    co_return co_await set_balloon(balloon);
}

Awaitable<Result<void>> Machine::set_balloon(MiB size) {
    if (!vmm::has_balloon(spec_.layout)) co_return no_balloon();
    if (size >= spec_.memory) co_return fail(Errc::invalid, "the balloon is as large as the memory");
    // QEMU counts what is left to the guest.
    json::object arguments{{"value", spec_.memory.bytes() - size.bytes()}};
    auto done = co_await control_->execute("balloon", std::move(arguments), command_limit);
    if (!done) co_return fail(std::move(done.error()));
    co_return Result<void>{};
}

Awaitable<Result<vmm::MemoryNumbers>> Machine::memory_numbers() {
    if (!vmm::has_balloon(spec_.layout)) co_return no_balloon();
    json::object nothing;
    const auto size = co_await control_->execute("query-balloon", std::move(nothing), command_limit);
    if (!size) co_return fail(size.error());
    json::object property = balloon_property("guest-stats");
    const auto told = co_await control_->execute("qom-get", std::move(property), command_limit);
    if (!told) co_return fail(told.error());
    co_return read_memory_numbers(*size, *told, spec_.memory);
}

Awaitable<Result<void>> Machine::set_disk_limit(vmm::DiskLimit limit) {
    json::object arguments{{"id", disk_device}, {"bps", limit.bytes_per_second},       {"bps_rd", 0},
                           {"bps_wr", 0},       {"iops", limit.operations_per_second}, {"iops_rd", 0},
                           {"iops_wr", 0}};
    auto done = co_await control_->execute("block_set_io_throttle", std::move(arguments), command_limit);
    if (!done) co_return fail(std::move(done.error()).at("limit the disk"));
    spec_.disk_limit = limit;
    co_return Result<void>{};
}

Awaitable<Result<vmm::DeviceNumbers>> Machine::device_numbers() {
    json::object nothing;
    const auto answer = co_await control_->execute("query-blockstats", std::move(nothing), command_limit);
    if (!answer) co_return fail(answer.error());
    co_return read_device_numbers(*answer);
}

}  // namespace noid::qemu
