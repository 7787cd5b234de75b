#include "launcher/system_calls.hpp"

#include <linux/audit.h>
#include <linux/btrfs.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>

namespace noid::launcher {

namespace {

constexpr std::array<std::uint32_t, 52> refused{
    // namespaces and roots
    SYS_unshare, SYS_setns, SYS_chroot, SYS_pivot_root,
    // mounts
    SYS_mount, SYS_umount2, SYS_move_mount, SYS_open_tree, SYS_fsopen, SYS_fsconfig, SYS_fsmount, SYS_fspick,
    SYS_mount_setattr, SYS_quotactl, SYS_quotactl_fd, SYS_swapon, SYS_swapoff,
    // other processes
    SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_process_madvise, SYS_process_mrelease,
    SYS_pidfd_getfd, SYS_kcmp, SYS_migrate_pages, SYS_move_pages,
    // files by number, whatever root there is
    SYS_open_by_handle_at, SYS_name_to_handle_at,
    // the kernel
    SYS_bpf, SYS_perf_event_open, SYS_keyctl, SYS_add_key, SYS_request_key, SYS_init_module, SYS_finit_module,
    SYS_delete_module, SYS_kexec_load, SYS_kexec_file_load, SYS_reboot, SYS_acct, SYS_syslog,
    SYS_lookup_dcookie, SYS_fanotify_init, SYS_vhangup, SYS_iopl, SYS_ioperm,
    // the clock
    SYS_settimeofday, SYS_clock_settime, SYS_adjtimex, SYS_clock_adjtime,
    // names of the host
    SYS_sethostname, SYS_setdomainname};
// Programs try these first and have another way.
constexpr std::array<std::uint32_t, 4> absent{SYS_clone3,  // its flags are out of a filter's sight
                                              SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register};

constexpr std::uint32_t new_namespaces =
    CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;
constexpr std::array<std::uint32_t, 3> families{AF_UNIX, AF_INET, AF_INET6};
// What owners of directories on btrfs may do without privilege: file systems in the file system, which root
// cannot empty either once they are read-only.
constexpr std::array<std::uint32_t, 5> subvolumes{
    std::uint32_t{BTRFS_IOC_SUBVOL_CREATE}, std::uint32_t{BTRFS_IOC_SUBVOL_CREATE_V2},
    std::uint32_t{BTRFS_IOC_SNAP_CREATE}, std::uint32_t{BTRFS_IOC_SNAP_CREATE_V2},
    std::uint32_t{BTRFS_IOC_SUBVOL_SETFLAGS}};
constexpr std::uint32_t x32 = 0x40000000;  // the same system calls by other numbers

constexpr sock_filter load(std::size_t offset) {
    return BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<std::uint32_t>(offset));
}
constexpr sock_filter answer(std::uint32_t what) {
    return BPF_STMT(BPF_RET | BPF_K, what);
}
// Goes on with the next statement if it holds, else after the next.
constexpr sock_filter if_equal(std::uint32_t value) {
    return BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
}

constexpr std::uint32_t refuse = SECCOMP_RET_ERRNO | EPERM;
constexpr std::uint32_t have_not = SECCOMP_RET_ERRNO | ENOSYS;
// Little endian: the lower half comes first.
constexpr std::size_t first_argument = offsetof(seccomp_data, args);
constexpr std::size_t second_argument = first_argument + sizeof(std::uint64_t);

constexpr std::size_t length = 6 + 2 * (refused.size() + absent.size()) + 5 + 4 + 3 + 2 * subvolumes.size() +
                               4 + 2 * families.size() + 1;

constexpr std::array<sock_filter, length> program(Userfaultfd userfaultfd) {
    std::array<sock_filter, length> code{};
    std::size_t at = 0;
    const auto add = [&](sock_filter statement) { code[at++] = statement; };
    add(load(offsetof(seccomp_data, arch)));
    add(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0));
    add(answer(SECCOMP_RET_KILL_PROCESS));
    add(load(offsetof(seccomp_data, nr)));
    add(BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, x32, 0, 1));
    add(answer(have_not));
    for (const auto number : refused) {
        add(if_equal(number));
        add(answer(refuse));
    }
    for (const auto number : absent) {
        add(if_equal(number));
        add(answer(have_not));
    }
    add(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 0, 4));
    add(load(first_argument));
    add(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, UFFD_USER_MODE_ONLY, 0, 1));
    add(answer(userfaultfd == Userfaultfd::of_own_faults ? SECCOMP_RET_ALLOW : refuse));
    add(answer(refuse));
    add(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 3));
    add(load(first_argument));
    add(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, new_namespaces, 0, 1));
    add(answer(refuse));
    add(load(offsetof(seccomp_data, nr)));  // after a clone it is its flags that are loaded
    add(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 2 + 2 * subvolumes.size()));
    add(load(second_argument));
    for (const auto request : subvolumes) {
        add(if_equal(request));
        add(answer(refuse));
    }
    add(answer(SECCOMP_RET_ALLOW));
    add(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 1, 0));
    add(answer(SECCOMP_RET_ALLOW));
    add(load(first_argument));
    for (const auto family : families) {
        add(if_equal(family));
        add(answer(SECCOMP_RET_ALLOW));
    }
    add(answer(refuse));
    return code;
}

}  // namespace

bool refuse_system_calls(Userfaultfd userfaultfd) noexcept {
    static constexpr auto strict = program(Userfaultfd::none);
    static constexpr auto with_faults = program(Userfaultfd::of_own_faults);
    const auto& code = userfaultfd == Userfaultfd::none ? strict : with_faults;
    const sock_fprog filter{.len = static_cast<unsigned short>(code.size()),
                            .filter = const_cast<sock_filter*>(code.data())};
    return ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0) == 0;
}

}  // namespace noid::launcher
