#pragma once

#include <cstdint>
#include <optional>

#include "wire/json.hpp"

namespace noid::wire {

// What is set for one user: PUT /admin/v1/users/{name}/limits. Absent or null: the server's default
// holds. 0: not bounded (but for VMs).
struct OwnLimits {
    std::optional<std::uint64_t> max_vms{};
    std::optional<std::uint64_t> max_memory_mib{};  // of all VMs that have a process
    std::optional<std::uint64_t> max_vcpus{};       // as memory
    std::optional<std::uint64_t> max_disk_mib{};    // really used, with checkpoints

    [[nodiscard]] static Result<OwnLimits> from_json(const json::value& value);
};
[[nodiscard]] json::object to_json(const OwnLimits& limits);

struct Amounts {
    std::uint64_t vms = 0;
    std::uint64_t memory_mib = 0;
    std::uint64_t vcpus = 0;
    std::uint64_t disk_mib = 0;

    [[nodiscard]] static Result<Amounts> from_json(const json::value& value);
};
[[nodiscard]] json::object to_json(const Amounts& amounts);

// The answer: what was set, what therefore holds, and what is used now.
struct UserLimits {
    OwnLimits own;
    Amounts allowed;
    Amounts used;

    [[nodiscard]] static Result<UserLimits> from_json(const json::value& value);
};
[[nodiscard]] json::object to_json(const UserLimits& limits);

}  // namespace noid::wire
