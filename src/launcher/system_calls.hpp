#pragma once

#include "launcher/confinement.hpp"

namespace noid::launcher {

// Takes away, for this process and whatever it starts, the system calls that no VMM needs and that lead out
// of a confinement or into parts of the kernel that only few have tested: namespaces of its own (in a user
// namespace everybody has all capabilities), mounts, tracing, keys, BPF, profiling, io_uring, modules,
// userfaultfd, sockets of other families than Unix and IP (AF_VSOCK knows no namespaces), subvolumes of
// btrfs. With `Userfaultfd::of_own_faults` the program may have one that serves no faults of the kernel's.
// They fail with EPERM, or with ENOSYS where programs then do without. Only to system calls: to be called
// between clone and exec, after PR_SET_NO_NEW_PRIVS. False, with errno, when it fails.
[[nodiscard]] bool refuse_system_calls(Userfaultfd userfaultfd) noexcept;

}  // namespace noid::launcher
