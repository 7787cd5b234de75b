#include "vmm_choice/choose.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include "firecracker/vmm.hpp"
#include "qemu/qemu.hpp"

namespace noid::vmm_choice {

namespace {

using Wanted = config::ServerConfig::Vmm;

qemu::Options::Accelerate acceleration(Wanted::Accelerator wanted) {
    switch (wanted) {
        case Wanted::Accelerator::automatic:
            return qemu::Options::Accelerate::automatic;
        case Wanted::Accelerator::kvm:
            return qemu::Options::Accelerate::kvm;
        case Wanted::Accelerator::tcg:
            return qemu::Options::Accelerate::tcg;
    }
    return qemu::Options::Accelerate::automatic;
}

Choice chosen(std::unique_ptr<vmm::Vmm> vmm, std::string_view because, std::string_view confinement) {
    const auto& about = vmm->description();
    auto reason = fmt::format("{} {} with {}: {}; {}", name_of(about.kind), about.version, about.accelerator,
                              because, confinement);
    return {std::move(vmm), std::move(reason)};
}

// Root is what it takes to give each VMM a user and a root file system of its own.
bool can_confine(const Wanted& wanted) {
    return wanted.jail == Wanted::Jail::automatic && ::geteuid() == 0;
}

Awaitable<Result<Choice>> choose_firecracker(Wanted wanted, asio::thread_pool& pool) {
    if (wanted.accelerator == Wanted::Accelerator::tcg)
        co_return fail(Errc::unsupported, "Firecracker runs with KVM only, and vmm.accelerator is tcg");
    firecracker::Options options{.program = wanted.firecracker};
    if (can_confine(wanted))
        options.users.emplace(launcher::UserRange{.first = wanted.first_uid, .count = wanted.uids});
    auto vmm = co_await firecracker::open(std::move(options), pool);
    if (!vmm) co_return fail(vmm.error());
    std::string confinement = "each VM confined, as a user of its own";
    if (wanted.jail == Wanted::Jail::never) confinement = "not confined, as configured";
    if (::geteuid() != 0) confinement = "not confined: that takes root";
    co_return chosen(
        std::move(*vmm),
        wanted.kind == Wanted::Choice::automatic ? "chosen because both work here" : "as configured",
        confinement);
}

Awaitable<Result<Choice>> choose_qemu(Wanted wanted, asio::thread_pool& pool, std::string because) {
    // Named: g++ 12 destroys an aggregate made inside a co_await expression twice.
    qemu::Options options{.program = wanted.qemu.string(), .accelerate = acceleration(wanted.accelerator)};
    auto vmm = co_await qemu::create(pool, std::move(options));
    if (!vmm) co_return fail(vmm.error());
    co_return chosen(std::move(*vmm), because, "confined by QEMU's own sandbox only");
}

}  // namespace

Awaitable<Result<Choice>> choose(Wanted wanted, asio::thread_pool& pool) {
    switch (wanted.kind) {
        case Wanted::Choice::firecracker: {
            auto choice = co_await choose_firecracker(std::move(wanted), pool);
            if (!choice) co_return fail(std::move(choice.error()).at("vmm.kind is firecracker"));
            co_return choice;
        }
        case Wanted::Choice::qemu: {
            auto choice = co_await choose_qemu(std::move(wanted), pool, "as configured");
            if (!choice) co_return fail(std::move(choice.error()).at("vmm.kind is qemu"));
            co_return choice;
        }
        case Wanted::Choice::automatic:
            break;
    }
    auto first = co_await choose_firecracker(wanted, pool);
    if (first) co_return first;
    const auto because = fmt::format("Firecracker cannot be used: {}", first.error().full());
    auto second = co_await choose_qemu(std::move(wanted), pool, because);
    if (!second)
        co_return fail(second.error().code,
                       fmt::format("no VMM works here: QEMU: {}; {}", second.error().what, because));
    co_return second;
}

}  // namespace noid::vmm_choice
