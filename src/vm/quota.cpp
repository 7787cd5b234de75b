#include "vm/quota.hpp"

#include <fmt/format.h>

#include <optional>
#include <string_view>

namespace noid::vm {

namespace {

std::uint64_t or_default(const std::optional<std::int64_t>& own, std::uint64_t otherwise) {
    return own ? static_cast<std::uint64_t>(*own) : otherwise;
}

// Rounded up: what is used must not look smaller than it is.
std::uint64_t in_mib(std::uint64_t bytes) {
    return (bytes + MiB{1}.bytes() - 1) / MiB{1}.bytes();
}

Result<void> fits(std::uint64_t used, std::uint64_t wanted, std::uint64_t limit, std::string_view what) {
    if (limit == 0 || used + wanted <= limit) return {};
    return fail(Errc::limit_exceeded, fmt::format("{} used and {} wanted, but the user's limit is {} {}",
                                                  used, wanted, limit, what));
}

}  // namespace

Quota::Quota(const config::ServerConfig::Limits& defaults, store::UserLimits own)
    : defaults_{defaults}, own_{own} {}

void Quota::set(const store::UserLimits& own) {
    const std::lock_guard lock{mutex_};
    own_ = own;
}

store::UserLimits Quota::own() const {
    const std::lock_guard lock{mutex_};
    return own_;
}

Allowance Quota::allowed() const {
    const std::lock_guard lock{mutex_};
    return allowed_locked();
}

Allowance Quota::allowed_locked() const {
    return {or_default(own_.max_vms, defaults_.max_vms),
            MiB{or_default(own_.max_memory_mib, defaults_.max_memory.count)},
            or_default(own_.max_vcpus, defaults_.max_vcpus),
            MiB{or_default(own_.max_disk_mib, defaults_.max_disk.count)}};
}

Allowance Quota::running() const {
    const std::lock_guard lock{mutex_};
    Allowance taken;
    taken.memory = MiB{memory_mib_};
    taken.vcpus = vcpus_;
    return taken;
}

Result<Quota::Share> Quota::take(std::uint32_t vcpus, MiB memory) {
    const std::lock_guard lock{mutex_};
    const Allowance limit = allowed_locked();
    if (auto fit = fits(memory_mib_, memory.count, limit.memory.count, "MiB of memory"); !fit)
        return fail(std::move(fit.error()));
    if (auto fit = fits(vcpus_, vcpus, limit.vcpus, "vCPUs"); !fit) return fail(std::move(fit.error()));
    memory_mib_ += memory.count;
    vcpus_ += vcpus;
    return Share{*this, vcpus, memory};
}

Quota::Share Quota::take_over(std::uint32_t vcpus, MiB memory) {
    const std::lock_guard lock{mutex_};
    memory_mib_ += memory.count;
    vcpus_ += vcpus;
    return Share{*this, vcpus, memory};
}

bool Quota::bounds_disk() const {
    return allowed().disk.count != 0;
}

Result<Quota::Claim> Quota::claim(std::uint64_t used, std::uint64_t wanted) {
    const std::lock_guard lock{mutex_};
    const std::uint64_t limit = allowed_locked().disk.count;
    if (auto fit = fits(in_mib(used + claimed_bytes_), in_mib(wanted), limit, "MiB of disk"); !fit)
        return fail(std::move(fit.error()));
    claimed_bytes_ += wanted;
    return Claim{*this, wanted};
}

void Quota::give_back(std::uint32_t vcpus, MiB memory) noexcept {
    const std::lock_guard lock{mutex_};
    vcpus_ -= vcpus;
    memory_mib_ -= memory.count;
}

void Quota::give_back(std::uint64_t bytes) noexcept {
    const std::lock_guard lock{mutex_};
    claimed_bytes_ -= bytes;
}

}  // namespace noid::vm
