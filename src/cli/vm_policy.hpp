#pragma once

#include <boost/json/value.hpp>
#include <cstdint>
#include <optional>

#include "cli/quantities.hpp"
#include "cli/vm_request.hpp"

namespace noid::cli {

// What shall change about the things that the server does with a VM by itself; the rest stays.
struct VmPolicyChange {
    std::optional<Interval> checkpoint_every;
    std::optional<std::uint32_t> checkpoint_keep;
    std::optional<Interval> idle_suspend;
};

// The policy as it is then, as the server says it.
Awaitable<Result<boost::json::value>> change_policy(const VmOnServer& vm, VmPolicyChange change);

}  // namespace noid::cli
