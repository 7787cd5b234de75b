#pragma once

#include <boost/json/value.hpp>
#include <chrono>
#include <string>
#include <string_view>

#include "cli/vm_request.hpp"

// What the commands about checkpoints share.
namespace noid::cli {

// Saving, restoring and removing wait for disks.
inline constexpr std::chrono::milliseconds saving_limit{300'000};

// "/v1/vms/NAME/checkpoints/WHICH".
[[nodiscard]] std::string checkpoint_target(const VmOnServer& vm, std::string_view which);

// A request that takes a while, and its JSON answer; `doing` is shown meanwhile, `what` names the answer
// in errors.
Awaitable<Result<boost::json::value>> call_with_spinner(const Context& context, const VmOnServer& vm,
                                                        HttpRequest request, std::string doing,
                                                        std::string what);

}  // namespace noid::cli
