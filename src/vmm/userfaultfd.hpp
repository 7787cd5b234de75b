#pragma once

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

namespace noid::vmm {

// A VMM that keeps no log of what its guest writes has a userfaultfd at this number, above all that it
// inherits. The kernel's part is write protection that ends by itself, without anybody being asked, at the
// first write to a page: Documentation/admin-guide/mm/userfaultfd.rst, UFFD_FEATURE_WP_ASYNC, since
// Linux 6.7.
inline constexpr int userfaultfd_number = 7;

// Of the calling process's memory; closed on exec. -1, with errno: the kernel cannot do this, or nobody may.
// Inline, and nothing but system calls: it is called inside of QEMU, too.
inline int make_userfaultfd() noexcept {
    constexpr std::uint64_t asynchronous_protection = std::uint64_t{1} << 15;  // UFFD_FEATURE_WP_ASYNC
    // Faults of the kernel's own are not for it: then it takes no privilege, and is no help against the
    // kernel.
    const auto made = static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY));
    if (made < 0) return -1;
    uffdio_api api{};
    api.api = UFFD_API;
    api.features = asynchronous_protection;
    if (::ioctl(made, UFFDIO_API, &api) == 0) return made;
    const int error_number = errno;
    ::close(made);
    errno = error_number;
    return -1;
}

}  // namespace noid::vmm
