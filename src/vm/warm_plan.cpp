#include "vm/warm_plan.hpp"

namespace noid::vm {

std::vector<std::size_t> plan_warm_vms(std::span<const MiB> memory_of_each, std::size_t size, MiB bound) {
    std::vector<std::size_t> plan(memory_of_each.size(), 0);
    std::uint64_t left = bound.count;
    for (std::size_t round = 0; round < size; ++round) {
        for (std::size_t i = 0; i < plan.size(); ++i) {
            // Who did not fit before does not fit now.
            if (plan[i] != round || memory_of_each[i].count > left) continue;
            ++plan[i];
            left -= memory_of_each[i].count;
        }
    }
    return plan;
}

}  // namespace noid::vm
