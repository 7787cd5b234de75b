#include "vmm_choice/choose.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <memory>
#include <optional>

#include "firecracker/vmm.hpp"
#include "privileged/local_warden.hpp"
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

Result<launcher::Cgroups> open_cgroups() {
    const auto directory = launcher::Cgroups::usual_directory();
    if (!directory) return fail(directory.error());
    return launcher::Cgroups::open(*directory);
}

std::string limits_in_words(const Result<launcher::Cgroups>& cgroups) {
    if (!cgroups) return "; without limits: " + cgroups.error().full();
    const auto& holding = cgroups->controllers();
    const auto& missing = cgroups->missing();
    std::string words = holding.empty() ? "" : fmt::format(", limits on {}", fmt::join(holding, ", "));
    if (!missing.empty())
        words += fmt::format("; no limits on {}: no such cgroup controller is given here",
                             fmt::join(missing, ", "));
    return words;
}

Awaitable<Result<Choice>> choose_firecracker(Wanted wanted, Starter starter, asio::thread_pool& pool) {
    if (wanted.accelerator == Wanted::Accelerator::tcg)
        co_return fail(Errc::unsupported, "Firecracker runs with KVM only, and vmm.accelerator is tcg");
    auto vmm = co_await firecracker::open(std::move(starter.warden), pool);
    if (!vmm) co_return fail(vmm.error());
    co_return chosen(
        std::move(*vmm),
        wanted.kind == Wanted::Choice::automatic ? "chosen because both work here" : "as configured",
        starter.confinement);
}

Awaitable<Result<Choice>> choose_qemu(Wanted wanted, Starter starter, asio::thread_pool& pool,
                                      std::string because) {
    // Named: g++ 12 destroys an aggregate made inside a co_await expression twice.
    qemu::Options options{.accelerate = acceleration(wanted.accelerator),
                          .warden = std::move(starter.warden)};
    auto vmm = co_await qemu::create(pool, std::move(options));
    if (!vmm) co_return fail(vmm.error());
    co_return chosen(std::move(*vmm), because, starter.confinement);
}

}  // namespace

// Root is what it takes to give each VMM a user and a root file system of its own.
Result<Starter> local_starter(const config::ServerConfig& config, const launcher::Credentials& server) {
    const auto& wanted = config.vmm;
    privileged::LocalWarden::Options options{.qemu = wanted.qemu,
                                             .firecracker = wanted.firecracker,
                                             .data_dir = config.paths.data_dir,
                                             .server = server};
    std::string words;
    if (::geteuid() != 0) {
        words = "with nothing but its own sandbox: confining takes root";
    } else if (wanted.jail == Wanted::Jail::never) {
        words = "with nothing but its own sandbox, as configured";
    } else {
        options.users = launcher::UserRange{.first = wanted.first_uid, .count = wanted.uids};
        auto cgroups = open_cgroups();
        words = "each VM confined, as a user of its own" + limits_in_words(cgroups);
        if (cgroups) options.cgroups = std::make_shared<const launcher::Cgroups>(std::move(*cgroups));
    }
    auto warden = privileged::LocalWarden::open(std::move(options));
    if (!warden) return fail(std::move(warden.error()));
    return Starter{std::move(*warden), std::move(words)};
}

Result<Starter> local_starter(const config::ServerConfig& config) {
    return local_starter(config, launcher::Credentials{::geteuid(), ::getegid()});
}

Awaitable<Result<Choice>> choose(Wanted wanted, Starter starter, asio::thread_pool& pool) {
    switch (wanted.kind) {
        case Wanted::Choice::firecracker: {
            auto choice = co_await choose_firecracker(std::move(wanted), std::move(starter), pool);
            if (!choice) co_return fail(std::move(choice.error()).at("vmm.kind is firecracker"));
            co_return choice;
        }
        case Wanted::Choice::qemu: {
            auto choice = co_await choose_qemu(std::move(wanted), std::move(starter), pool, "as configured");
            if (!choice) co_return fail(std::move(choice.error()).at("vmm.kind is qemu"));
            co_return choice;
        }
        case Wanted::Choice::automatic:
            break;
    }
    auto first = co_await choose_firecracker(wanted, starter, pool);
    if (first) co_return first;
    const auto because = fmt::format("Firecracker cannot be used: {}", first.error().full());
    auto second = co_await choose_qemu(std::move(wanted), std::move(starter), pool, because);
    if (!second)
        co_return fail(second.error().code,
                       fmt::format("no VMM works here: QEMU: {}; {}", second.error().what, because));
    co_return second;
}

}  // namespace noid::vmm_choice
