#pragma once

#include "base/error.hpp"
#include "base/fd.hpp"

namespace noid::qemu {

// A shared library for LD_PRELOAD, kept inside this program: with it QEMU opens the file that the variable
// NOID_MEMORY_FILE names for reading only, and makes no holes in it.
inline constexpr auto open_memory_file = "open-memory.so";
inline constexpr auto open_memory_variable = "NOID_MEMORY_FILE";

// Writes it into `directory`, readable for everybody.
[[nodiscard]] Result<void> put_open_memory(const Fd& directory);

}  // namespace noid::qemu
