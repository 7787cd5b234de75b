#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/units.hpp"

namespace noid::vm {

// How many VMs of each template the warm pool holds: at most `size` of each, together within `bound`. The
// templates come in the order of preference; one of each goes before a second of any.
[[nodiscard]] std::vector<std::size_t> plan_warm_vms(std::span<const MiB> memory_of_each, std::size_t size,
                                                     MiB bound);

}  // namespace noid::vm
