#include "doctor/vmm_checks.hpp"

#include <boost/asio/io_context.hpp>
#include <boost/asio/thread_pool.hpp>
#include <exception>
#include <optional>
#include <utility>

#include "firecracker/kvm_trial.hpp"
#include "qemu/host_trial.hpp"
#include "vmm_choice/choose.hpp"

namespace noid::doctor {

namespace {

// Runs `make(pool)` to its end on a loop of its own.
template <typename Value, typename Make>
Result<Value> outcome_of(Make make) {
    asio::io_context loop;
    asio::thread_pool pool{2};
    std::optional<Result<Value>> outcome;
    asio::co_spawn(loop, make(pool), [&](std::exception_ptr bug, Result<Value> ended) {
        if (bug) std::rethrow_exception(bug);
        outcome.emplace(std::move(ended));
    });
    loop.run();
    pool.join();
    return std::move(*outcome);
}

}  // namespace

Finding check_kvm(const config::ServerConfig& config) {
    constexpr auto advice =
        "guests are emulated, many times slower: enable virtualisation (on a VPS: nested), load kvm_intel or "
        "kvm_amd, and let this user into the group 'kvm'";
    if (const auto instruction = firecracker::try_kvm(); !instruction)
        return {"KVM", Verdict::warning, instruction.error().full(), advice};
    // A host that is itself virtual may run instructions and yet boot nothing.
    const auto starter = vmm_choice::local_starter(config);
    if (!starter) return {"KVM", Verdict::warning, starter.error().full(), advice};
    const auto guest =
        outcome_of<void>([&](asio::thread_pool& pool) { return qemu::try_kvm(pool, *starter->warden); });
    if (guest) return {"KVM", Verdict::ok, "a trial guest came up", {}};
    if (guest.error().code == Errc::not_found)
        return {"KVM", Verdict::ok, "runs instructions; there is no QEMU to try a guest with", {}};
    return {"KVM", Verdict::warning, "opens, but a trial guest does not come up: " + guest.error().full(),
            advice};
}

Finding check_vmm(const config::ServerConfig& config) {
    const auto starter = vmm_choice::local_starter(config);
    const auto choice = starter ? outcome_of<vmm_choice::Choice>([&](asio::thread_pool& pool) {
        return vmm_choice::choose(config.vmm, *starter, pool);
    })
                                : Result<vmm_choice::Choice>{fail(starter.error())};
    if (choice) return {"VMM", Verdict::ok, choice->reason, {}};
    return {"VMM", Verdict::failure, choice.error().full(),
            "apt-get install qemu-system-x86, or name the programs in [vmm] qemu and firecracker"};
}

}  // namespace noid::doctor
