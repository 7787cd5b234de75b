#pragma once

#include "base/error.hpp"
#include "base/fd.hpp"

namespace noid::qemu {

// A shared library for LD_PRELOAD, kept inside this program. With it QEMU opens the file that the variable
// NOID_MEMORY_FILE names for reading only, and makes no holes in it (open_memory.cpp); and it has a
// userfaultfd, for whoever wants to know what the guest writes (make_userfaultfd.cpp).
inline constexpr auto preload_file = "preload.so";
inline constexpr auto memory_file_variable = "NOID_MEMORY_FILE";

// Writes it into `directory`, readable for everybody.
[[nodiscard]] Result<void> put_preload(const Fd& directory);

}  // namespace noid::qemu
