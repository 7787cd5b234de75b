#pragma once

#include "vm/engine.hpp"
#include "wire/server_info.hpp"
#include "wire/user_limits.hpp"

// What the engine says of users, as administration shows it, through a server or without one.
namespace noid::admin {

[[nodiscard]] wire::User to_wire(vm::User user);
[[nodiscard]] wire::UserWithToken to_wire(vm::Engine::NewToken made);
[[nodiscard]] wire::UserLimits to_wire(const vm::Engine::UserLimits& limits);
// invalid: a number is beyond what can be kept.
[[nodiscard]] Result<store::UserLimits> from_wire(const wire::OwnLimits& limits);

}  // namespace noid::admin
