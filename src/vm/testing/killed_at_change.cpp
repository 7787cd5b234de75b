#include "vm/testing/killed_at_change.hpp"

#include <fcntl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <stdexcept>

namespace noid::vm {

namespace {

bool makes_a_file(std::uint64_t flags) {
    return (flags & (O_CREAT | O_TRUNC)) != 0;
}

bool changes_files(const __ptrace_syscall_info& call) {
    switch (call.entry.nr) {
        case SYS_rename:
        case SYS_renameat:
        case SYS_renameat2:
        case SYS_unlink:
        case SYS_unlinkat:
        case SYS_rmdir:
        case SYS_mkdir:
        case SYS_mkdirat:
        case SYS_link:
        case SYS_linkat:
        case SYS_write:
        case SYS_pwrite64:
        case SYS_ftruncate:
        case SYS_fallocate:
        case SYS_copy_file_range:
        case SYS_ioctl:
        case SYS_fchmod:
        case SYS_chmod:
            return true;
        case SYS_open:
            return makes_a_file(call.entry.args[1]);
        case SYS_openat:
            return makes_a_file(call.entry.args[2]);
        default:
            return false;
    }
}

// Lets it run to its next system call. False: it has ended.
bool next_call(pid_t child, __ptrace_syscall_info& call) {
    while (true) {
        int status = 0;
        if (::ptrace(PTRACE_SYSCALL, child, nullptr, nullptr) != 0 || ::waitpid(child, &status, 0) != child)
            throw std::runtime_error{"the traced process is lost"};
        if (WIFEXITED(status) || WIFSIGNALED(status)) return false;
        if (WSTOPSIG(status) != (SIGTRAP | 0x80)) continue;
        if (::ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof call, &call) <= 0)
            throw std::runtime_error{"the system call cannot be read"};
        if (call.op == PTRACE_SYSCALL_INFO_ENTRY) return true;
    }
}

}  // namespace

bool killed_at_change(std::size_t n, const std::function<void()>& work) {
    const pid_t child = ::fork();
    if (child == 0) {
        ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
        ::raise(SIGSTOP);
        work();
        ::_exit(0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    ::ptrace(PTRACE_SETOPTIONS, child, nullptr, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
    __ptrace_syscall_info call{};
    std::size_t changes = 0;
    while (next_call(child, call)) {
        if (!changes_files(call) || changes++ < n) continue;
        ::kill(child, SIGKILL);  // before the call is carried out
        ::waitpid(child, &status, 0);
        return true;
    }
    return false;
}

}  // namespace noid::vm
