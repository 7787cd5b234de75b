#pragma once

#include <optional>
#include <string>

#include "wire/json.hpp"

namespace noid::wire {

// One checkpoint as the API shows it.
struct CheckpointInfo {
    std::string id;  // 16 lower-case hexadecimal digits
    std::string vm_name;
    std::optional<std::string> label;
    std::string created_at;  // UTC "YYYY-MM-DD HH:MM:SS"
    std::optional<std::string> name;

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

// POST …/restore
struct RestoreCheckpoint {
    std::string checkpoint_id;            // id, a unique prefix of one, or a name
    std::optional<std::string> new_name;  // none: in place

    [[nodiscard]] static Result<RestoreCheckpoint> from_json(const json::value& value);
};
[[nodiscard]] json::object to_json(const RestoreCheckpoint& request);

}  // namespace noid::wire
