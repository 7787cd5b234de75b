#include "vm/resources.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <string_view>

#include "vm/create_request.hpp"
#include "wire/json.hpp"

namespace noid::vm {

namespace json = boost::json;

namespace {

// Slower, a guest's own timeouts run out before its disk answers.
constexpr std::uint64_t least_bytes = 64 * 1024;
constexpr std::uint64_t least_operations = 10;
// What both VMMs take.
constexpr std::uint64_t most = 1'000'000'000'000;

Result<void> check_rate(std::string_view name, std::uint64_t rate, std::uint64_t least,
                        std::uint64_t allowed) {
    if (rate != 0 && (rate < least || rate > most)) {
        return fail(Errc::invalid,
                    fmt::format("{} must be 0 (not limited) or from {} to {}", name, least, most));
    }
    if (allowed != 0 && (rate == 0 || rate > allowed))
        return fail(Errc::limit_exceeded, fmt::format("{} must be from {} to {}", name, least, allowed));
    return {};
}

// `rate`, or as much as is allowed: 0 is without limit on both sides.
std::uint64_t at_most(std::uint64_t rate, std::uint64_t allowed) {
    if (allowed == 0) return rate;
    return rate == 0 ? allowed : std::min(rate, allowed);
}

}  // namespace

Resources ResourceChange::applied_to(Resources resources) const {
    if (balloon) resources.balloon = *balloon;
    if (disk_bytes_per_second) resources.disk.bytes_per_second = *disk_bytes_per_second;
    if (disk_operations_per_second) resources.disk.operations_per_second = *disk_operations_per_second;
    return resources;
}

Result<void> check(const Resources& resources, MiB memory, const config::ServerConfig::Limits& limits) {
    const auto spare = memory > least_memory ? memory.count - least_memory.count : 0;
    if (resources.balloon.count > spare) {
        return fail(Errc::invalid, fmt::format("balloon_mib must leave the guest {} MiB: at most {} of {}",
                                               least_memory.count, spare, memory.count));
    }
    if (auto fits = check_rate("disk_bytes_per_second", resources.disk.bytes_per_second, least_bytes,
                               limits.max_disk_bytes_per_second);
        !fits)
        return fits;
    return check_rate("disk_ops_per_second", resources.disk.operations_per_second, least_operations,
                      limits.max_disk_ops_per_second);
}

Resources resources_of_new_vm(const ResourceChange& change, const config::ServerConfig::Limits& limits) {
    Resources resources;
    resources.disk = {at_most(limits.disk_bytes_per_second, limits.max_disk_bytes_per_second),
                      at_most(limits.disk_ops_per_second, limits.max_disk_ops_per_second)};
    return change.applied_to(resources);
}

Resources resources_of_clone(Resources origin, MiB memory, const config::ServerConfig::Limits& limits) {
    origin.disk = {at_most(origin.disk.bytes_per_second, limits.max_disk_bytes_per_second),
                   at_most(origin.disk.operations_per_second, limits.max_disk_ops_per_second)};
    // Of a checkpoint that came from elsewhere: anything may stand there.
    return check(origin, memory, limits) ? origin : resources_of_new_vm({}, limits);
}

void put_resources(json::object& object, const Resources& resources) {
    if (resources.balloon != MiB{}) object["balloon_mib"] = resources.balloon.count;
    if (resources.disk.bytes_per_second != 0)
        object["disk_bytes_per_second"] = resources.disk.bytes_per_second;
    if (resources.disk.operations_per_second != 0)
        object["disk_ops_per_second"] = resources.disk.operations_per_second;
}

Result<Resources> read_resources(const json::value& object) {
    Resources resources;
    wire::FieldReader fields{object};
    fields.optional("balloon_mib", resources.balloon.count);
    fields.optional("disk_bytes_per_second", resources.disk.bytes_per_second);
    fields.optional("disk_ops_per_second", resources.disk.operations_per_second);
    if (auto read = fields.done(); !read) return fail(Errc::corrupt, read.error().what);
    return resources;
}

}  // namespace noid::vm
