#include "cli/vm_policy.hpp"

#include <boost/json/serialize.hpp>
#include <utility>

#include "wire/checkpoint.hpp"

namespace noid::cli {
namespace {

std::optional<std::uint64_t> seconds(const Interval& interval) {
    if (!interval.length) return std::nullopt;
    return static_cast<std::uint64_t>(interval.length->count());
}

}  // namespace

Awaitable<Result<boost::json::value>> change_policy(const VmOnServer& vm, VmPolicyChange change) {
    auto answer = co_await vm.client.call_json(HttpRequest{HttpMethod::get, vm.target + "/policy"}, "policy");
    if (!answer) co_return answer;
    auto policy = read_answer<wire::VmPolicy>(*answer, "policy");
    if (!policy) co_return fail(policy.error());
    if (change.checkpoint_every) policy->checkpoint_every_s = seconds(*change.checkpoint_every);
    if (change.checkpoint_keep) policy->checkpoint_keep = *change.checkpoint_keep;
    if (change.idle_suspend) policy->idle_suspend_s = seconds(*change.idle_suspend);
    HttpRequest request{HttpMethod::put, vm.target + "/policy",
                        boost::json::serialize(wire::to_json(*policy))};
    co_return co_await vm.client.call_json(std::move(request), "policy");
}

}  // namespace noid::cli
