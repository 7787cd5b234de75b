#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "wire/json.hpp"

namespace noid::wire {

// One checkpoint as the API shows it. The first four are what every client reads; the rest are
// additions.
struct CheckpointInfo {
    std::string id;  // 16 lower-case hexadecimal digits
    std::string vm_name;
    std::optional<std::string> label;
    std::string created_at;  // UTC "YYYY-MM-DD HH:MM:SS"

    std::optional<std::string> name;
    std::optional<std::string> parent;  // id of the checkpoint before it
    bool automatic = false;             // made by the server itself
    bool has_memory = true;             // false: restoring boots
    std::uint32_t cpus = 0;
    std::uint64_t mem_mib = 0;
    std::uint64_t disk_mib = 0;
    std::uint64_t logical_bytes = 0;
    std::uint64_t written_bytes = 0;               // of memory, when it was made
    std::uint64_t paused_us = 0;                   // how long the VM stood still for it
    std::optional<std::uint64_t> disk_used_bytes;  // that removing it would free
    std::string vmm;
    std::string obstacle;  // why this server cannot wake it

    [[nodiscard]] static Result<CheckpointInfo> from_json(const json::value& value);
};
[[nodiscard]] json::object to_json(const CheckpointInfo& checkpoint);

// POST …/checkpoints
struct CreateCheckpoint {
    std::optional<std::string> label;
    std::optional<std::string> name;

    [[nodiscard]] static Result<CreateCheckpoint> from_json(const json::value& value);
};
[[nodiscard]] json::object to_json(const CreateCheckpoint& request);

// PATCH …/checkpoints/{which}: what is absent stays as it is, an empty text takes away.
struct ChangeCheckpoint {
    std::optional<std::string> label;
    std::optional<std::string> name;

    [[nodiscard]] static Result<ChangeCheckpoint> from_json(const json::value& value);
};

// POST …/checkpoints/prune: removes those beyond the newest `keep` and those older; at least one of both.
struct PruneCheckpoints {
    std::optional<std::uint64_t> keep;
    std::optional<std::uint64_t> older_than_s;
    bool automatic_only = false;

    [[nodiscard]] static Result<PruneCheckpoints> from_json(const json::value& value);
};

// POST …/restore
struct RestoreCheckpoint {
    std::string checkpoint_id;            // id, a unique prefix of one, or a name
    std::optional<std::string> new_name;  // none: in place
    bool keep_present = true;             // in place: save the present state first

    [[nodiscard]] static Result<RestoreCheckpoint> from_json(const json::value& value);
};
[[nodiscard]] json::object to_json(const RestoreCheckpoint& request);

// POST …/fork: as many clones as there are names, or `count` with names of the server's choice.
struct ForkVm {
    std::vector<std::string> names;
    std::optional<std::uint64_t> count;

    [[nodiscard]] static Result<ForkVm> from_json(const json::value& value);
};

// GET and PUT …/policy: what the server does with a VM by itself. Periods in seconds, absent (null):
// never.
struct VmPolicy {
    std::optional<std::uint64_t> checkpoint_every_s;
    std::uint64_t checkpoint_keep = 10;  // automatic ones
    std::optional<std::uint64_t> idle_suspend_s;

    [[nodiscard]] static Result<VmPolicy> from_json(const json::value& value);
};
[[nodiscard]] json::object to_json(const VmPolicy& policy);

}  // namespace noid::wire
