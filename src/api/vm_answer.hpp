#pragma once

#include <cstdint>

#include "api/message.hpp"
#include "vm/types.hpp"
#include "wire/vm.hpp"

namespace noid::api {

// The wall clock, in seconds.
[[nodiscard]] std::int64_t unix_now() noexcept;

// A VM as the API shows it; its uptime is that of now.
[[nodiscard]] wire::VmInfo to_wire(vm::VmView view);
[[nodiscard]] Response vm_response(vm::VmView view, unsigned status = 200);

}  // namespace noid::api
