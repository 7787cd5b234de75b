#include "admin/engine_answers.hpp"

#include <limits>
#include <optional>
#include <utility>

namespace noid::admin {
namespace {

wire::Amounts to_wire(const vm::Allowance& allowance) {
    return {allowance.vms, allowance.memory.count, allowance.vcpus, allowance.disk.count};
}

std::optional<std::uint64_t> to_wire(std::optional<std::int64_t> limit) {
    if (!limit) return std::nullopt;
    return static_cast<std::uint64_t>(*limit);
}

}  // namespace

wire::User to_wire(vm::User user) {
    return wire::User{std::move(user.id), std::move(user.name), std::move(user.created_at)};
}

wire::UserWithToken to_wire(vm::Engine::NewToken made) {
    return wire::UserWithToken{to_wire(std::move(made.user)), std::move(made.secret)};
}

wire::UserLimits to_wire(const vm::Engine::UserLimits& limits) {
    return {{to_wire(limits.own.max_vms), to_wire(limits.own.max_memory_mib), to_wire(limits.own.max_vcpus),
             to_wire(limits.own.max_disk_mib)},
            to_wire(limits.allowed),
            to_wire(limits.used)};
}

Result<store::UserLimits> from_wire(const wire::OwnLimits& limits) {
    store::UserLimits kept;
    const auto keep = [](std::optional<std::uint64_t> limit, std::optional<std::int64_t>& into) {
        // Far more than anybody has, and mebibytes of it are still a number of bytes.
        constexpr std::uint64_t most = std::uint64_t{1} << 40;
        if (limit && *limit > most) return false;
        if (limit) into = static_cast<std::int64_t>(*limit);
        return true;
    };
    if (!keep(limits.max_vms, kept.max_vms) || !keep(limits.max_memory_mib, kept.max_memory_mib) ||
        !keep(limits.max_vcpus, kept.max_vcpus) || !keep(limits.max_disk_mib, kept.max_disk_mib))
        return fail(Errc::invalid, "a limit must be at most 1099511627776; 0 means not bounded");
    return kept;
}

}  // namespace noid::admin
