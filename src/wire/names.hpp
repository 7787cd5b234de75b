#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/error.hpp"

// Rules for what callers name, the same in client and server. Errors are `invalid` and carry the
// texts that existing clients know.
namespace noid::wire {

inline constexpr std::size_t max_vm_name = 64;
inline constexpr std::size_t max_env_vars = 64;
inline constexpr std::size_t max_env_value = 32768;

// 1 to 64 bytes of [A-Za-z0-9_.-], not starting with '.' or '-', without "..".
[[nodiscard]] Result<void> check_vm_name(std::string_view name);

// Entries "KEY=VALUE": at most 64, keys [A-Za-z_][A-Za-z0-9_]*, values at most 32768 bytes, no NUL.
[[nodiscard]] Result<void> check_env(std::span<const std::string> env);

// At most `limit` bytes of what a caller sent, for quoting it in a message.
[[nodiscard]] std::string clipped(std::string_view text, std::size_t limit = 128);

}  // namespace noid::wire
