// Of a machine: what is asked of its balloon, its drive and its counters while it runs.
#include <boost/json.hpp>
#include <chrono>

#include "firecracker/machine.hpp"

namespace noid::firecracker {

namespace json = boost::json;
using namespace std::chrono_literals;

namespace {

constexpr auto device_deadline = 15s;

std::optional<std::uint64_t> number(const json::object& object, std::string_view key) {
    const auto* value = object.if_contains(key);
    if (value == nullptr) return std::nullopt;
    boost::system::error_code wrong;
    const auto count = value->to_number<std::uint64_t>(wrong);
    if (wrong) return std::nullopt;
    return count;
}

std::unexpected<Error> no_balloon() {
    return fail(Errc::unsupported,
                "this machine has no balloon: it woke from a snapshot that was made without one");
}

}  // namespace

Result<vmm::MemoryNumbers> read_balloon_statistics(std::string_view body) {
    boost::system::error_code wrong;
    const auto value = json::parse(body, wrong);
    const auto* told = wrong ? nullptr : value.if_object();
    const auto pages = told ? number(*told, "actual_pages") : std::nullopt;
    constexpr std::uint64_t page = 4096;
    constexpr std::uint64_t most_pages = std::uint64_t{1} << 32;  // the device counts in 32 bits
    if (!pages || *pages >= most_pages)
        return fail(Errc::corrupt, "firecracker does not tell about the guest's memory");
    vmm::MemoryNumbers numbers;
    numbers.balloon = *pages * page;
    numbers.total = number(*told, "total_memory");
    numbers.free = number(*told, "free_memory");
    numbers.available = number(*told, "available_memory");
    numbers.caches = number(*told, "disk_caches");
    numbers.swapped_in = number(*told, "swap_in");
    numbers.swapped_out = number(*told, "swap_out");
    numbers.major_faults = number(*told, "major_faults");
    numbers.minor_faults = number(*told, "minor_faults");
    return numbers;
}

// Not by command(): none of these changes whether the machine runs.

Awaitable<Result<void>> Machine::set_balloon(MiB size) {
    if (!vmm::has_balloon(layout_)) co_return no_balloon();
    if (size >= memory_) co_return fail(Errc::invalid, "the balloon is as large as the memory");
    const auto answer = co_await api_.send(firecracker::set_balloon(size), device_deadline);
    if (!answer) co_return fail(answer.error());
    co_return Result<void>{};
}

Awaitable<Result<vmm::MemoryNumbers>> Machine::memory_numbers() {
    if (!vmm::has_balloon(layout_)) co_return no_balloon();
    const auto answer = co_await api_.send(balloon_statistics(), device_deadline);
    if (!answer) co_return fail(answer.error());
    co_return read_balloon_statistics(*answer);
}

Awaitable<Result<void>> Machine::set_disk_limit(vmm::DiskLimit limit) {
    const auto answer = co_await api_.send(firecracker::set_disk_limit(limit), device_deadline);
    if (!answer) co_return fail(Error{answer.error()}.at("limit the disk"));
    co_return Result<void>{};
}

Awaitable<Result<vmm::DeviceNumbers>> Machine::device_numbers() {
    if (!metrics_.is_there())
        co_return fail(Errc::unsupported, "this Firecracker was started without metrics");
    metrics_.drain(counted_);  // so that there is room
    const auto answer = co_await api_.send(flush_metrics(), device_deadline);
    if (!answer) co_return fail(answer.error());
    // Firecracker has written them when it answers.
    metrics_.drain(counted_);
    co_return counted_;
}

}  // namespace noid::firecracker
