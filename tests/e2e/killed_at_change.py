"""A program that is killed (SIGKILL) as it is about to make its n-th system call that changes a file or directory."""
import ctypes
import os
import signal
import subprocess

# x86-64
MAKES = {82, 264, 316, 87, 263, 84, 83, 258, 86, 265, 1, 18, 77, 285, 326, 16, 91, 90}
# rename, renameat, renameat2, unlink, unlinkat, rmdir, mkdir, mkdirat, link, linkat, write, pwrite64, ftruncate,
# fallocate, copy_file_range, ioctl, fchmod, chmod
OPEN, OPENAT = 2, 257

TRACEME, SETOPTIONS, SYSCALL, GET_SYSCALL_INFO = 0, 0x4200, 24, 0x420E
TRACESYSGOOD, EXITKILL = 1, 1 << 20
ENTRY = 1

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


class SyscallInfo(ctypes.Structure):
    _fields_ = [("op", ctypes.c_uint8), ("arch", ctypes.c_uint32), ("instruction", ctypes.c_uint64),
                ("stack", ctypes.c_uint64), ("number", ctypes.c_uint64), ("arguments", ctypes.c_uint64 * 6),
                ("spare", ctypes.c_uint64 * 4)]  # fmt: skip


def changes_files(call):
    if call.number in MAKES:
        return True
    flags = {OPEN: 1, OPENAT: 2}.get(call.number)
    return flags is not None and bool(call.arguments[flags] & (os.O_CREAT | os.O_TRUNC))


def ptrace(request, pid, address, data):
    done = libc.ptrace(request, pid, address, data)
    if done < 0:
        raise OSError(ctypes.get_errno(), "ptrace")
    return done


def killed_at_change(n, command, **options):
    """Whether it was killed there; False when it ended before. Counted from 0, from its start on."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               preexec_fn=lambda: libc.ptrace(TRACEME, 0, None, None), **options)  # fmt: skip
    os.waitpid(process.pid, 0)  # stands at its exec
    process.returncode = 0  # nobody else is to wait for it
    ptrace(SETOPTIONS, process.pid, None, TRACESYSGOOD | EXITKILL)
    deliver, changes, call = 0, 0, SyscallInfo()
    while True:
        ptrace(SYSCALL, process.pid, None, deliver)
        _, status = os.waitpid(process.pid, 0)
        if not os.WIFSTOPPED(status):
            return False
        stopped_by = os.WSTOPSIG(status)
        deliver = 0 if stopped_by & 0x7F == signal.SIGTRAP else stopped_by
        if stopped_by != signal.SIGTRAP | 0x80:
            continue
        ptrace(GET_SYSCALL_INFO, process.pid, ctypes.sizeof(call), ctypes.addressof(call))
        if call.op != ENTRY or not changes_files(call):
            continue
        if changes == n:
            os.kill(process.pid, signal.SIGKILL)
            os.waitpid(process.pid, 0)
            return True
        changes += 1
