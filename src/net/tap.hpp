#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "base/error.hpp"

namespace noid::net {

// Makes a persistent TAP in the calling thread's namespace, or takes one that nobody has open. Besides
// root, `owner` may open it; without one, whoever is in its namespace may. conflict when a process has it
// open. A VMM opens it by name and may choose packet headers of its own; it has one queue.
[[nodiscard]] Result<void> make_tap(const std::string& name, std::optional<uid_t> owner,
                                    std::optional<int> number = std::nullopt);
// Removes a TAP that nobody has open; conflict otherwise. Absent is fine.
[[nodiscard]] Result<void> remove_idle_tap(const std::string& name);

}  // namespace noid::net
