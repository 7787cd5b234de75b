#pragma once

#include "base/error.hpp"

namespace noid::firecracker {

// Runs one instruction in a virtual machine: a /dev/kvm that is there may still not work. Gives the reason
// as forbidden or unavailable. Blocks for some milliseconds.
[[nodiscard]] Result<void> try_kvm();

}  // namespace noid::firecracker
