#include "launcher/capabilities.hpp"

#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>

namespace noid::launcher {

Result<void> keep_capabilities(std::span<const int> kept) {
    // While CAP_SETPCAP may still be there.
    for (int capability = 0; ::prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; ++capability) {
        if (std::ranges::find(kept, capability) == kept.end() &&
            ::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0)
            return fail_errno(errno, "cannot give up capabilities for good");
    }
    __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> sets{};
    if (::syscall(SYS_capget, &header, sets.data()) != 0)
        return fail_errno(errno, "cannot read capabilities");
    std::array<std::uint32_t, _LINUX_CAPABILITY_U32S_3> mask{};
    for (const int capability : kept) mask[CAP_TO_INDEX(capability)] |= CAP_TO_MASK(capability);
    for (std::size_t i = 0; i < sets.size(); ++i) {
        sets[i].permitted &= mask[i];
        sets[i].effective = sets[i].permitted;
        sets[i].inheritable = 0;
    }
    if (::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0 ||
        ::syscall(SYS_capset, &header, sets.data()) != 0 || ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return fail_errno(errno, "cannot give up capabilities");
    return {};
}

namespace {

bool have_capabilities(std::span<const int> kept) noexcept {
    __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> sets{};
    for (const int capability : kept) {
        auto& set = sets[CAP_TO_INDEX(capability)];
        set.permitted |= CAP_TO_MASK(capability);
        set.effective = set.permitted;
    }
    return ::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) == 0 &&
           ::syscall(SYS_capset, &header, sets.data()) == 0;
}

bool drop_bounding_set() noexcept {
    for (int capability = 0; ::prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; ++capability) {
        if (::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0) return false;
    }
    return true;
}

}  // namespace

// Not by the C library's functions, which see to it that every thread changes: after clone they would wait
// for threads that only the parent has, where one of those was just beginning.
bool change_identity(const Credentials& credentials, std::span<const gid_t> groups,
                     std::span<const int> kept) noexcept {
    const auto [user, group] = credentials;
    // Otherwise the change of the user takes all of them at once.
    return ::prctl(PR_SET_KEEPCAPS, kept.empty() ? 0UL : 1UL, 0, 0, 0) == 0 && drop_bounding_set() &&
           ::syscall(SYS_setgroups, groups.size(), groups.data()) == 0 &&
           ::syscall(SYS_setresgid, group, group, group) == 0 &&
           ::syscall(SYS_setresuid, user, user, user) == 0 && have_capabilities(kept) &&
           ::prctl(PR_SET_KEEPCAPS, 0UL, 0, 0, 0) == 0;
}

}  // namespace noid::launcher
