"""Programs that wait for memory, as the host's kernel reports it: at their own limit only, or because it is short."""
import contextlib
import os
import pathlib
import select
import subprocess
import sys
import tempfile

CGROUP1 = pathlib.Path("/sys/fs/cgroup/memory")
CGROUP2 = pathlib.Path("/sys/fs/cgroup")
PRESSURE = "/proc/pressure/memory"
LIMIT = 16 << 20
# Reads a file that does not fit into its memory, again and again: the kernel reclaims for every page.
READER = """
import os, sys
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.ftruncate(file, 256 << 20)
piece = bytearray(1 << 20)
while True:
    for number in range(256):
        os.preadv(file, [piece], number << 20)
"""
# Has so many bytes until its standard input ends.
HOLDER = """
import mmap, sys
memory = mmap.mmap(-1, int(sys.argv[1]))
MADV_HUGEPAGE, MADV_POPULATE_WRITE = 14, 23
memory.madvise(MADV_HUGEPAGE)
memory.madvise(MADV_POPULATE_WRITE)
print("held", flush=True)
sys.stdin.read()
"""


def _place():
    """Where a group is made, and the file that limits its memory; none where this host has no such thing."""
    if os.geteuid() != 0 or not os.path.exists(PRESSURE):
        return None
    if os.access(CGROUP1 / "memory.limit_in_bytes", os.W_OK):
        return CGROUP1, "memory.limit_in_bytes"
    with contextlib.suppress(OSError):
        control = CGROUP2 / "cgroup.subtree_control"
        if "memory" not in control.read_text().split():
            control.write_text("+memory")
        return CGROUP2, "memory.max"
    return None


HAS_IT = _place() is not None


@contextlib.contextmanager
def waiting_for_memory(directory):
    """A process that waits for memory at its own limit; nobody else does. `directory` lies on a disk: what is in memory
    only cannot be reclaimed."""
    parent, limit = _place()
    group = pathlib.Path(tempfile.mkdtemp(prefix="noid-test-", dir=parent))

    def join():
        (group / "cgroup.procs").write_text(str(os.getpid()))

    try:
        (group / limit).write_text(str(LIMIT))
        with subprocess.Popen([sys.executable, "-c", READER, directory / "larger-than-memory"],
                              preexec_fn=join) as reader:
            try:
                yield
            finally:
                reader.kill()
    finally:
        group.rmdir()


def wait_until_felt(times):
    """Until the kernel has reported stalls as often, by the measure that the server has too."""
    with open(PRESSURE, "r+b", buffering=0) as pressure:
        pressure.write(b"some 200000 2000000\0")
        poll = select.poll()
        poll.register(pressure, select.POLLPRI)
        for _ in range(times):
            assert poll.poll(60_000), "the kernel reports no shortage"


def host_memory():
    """Bytes: all of it, and what is available."""
    lines = dict(line.split(":") for line in pathlib.Path("/proc/meminfo").read_text().splitlines())
    return tuple(int(lines[key].split()[0]) * 1024 for key in ("MemTotal", "MemAvailable"))


@contextlib.contextmanager
def shortage_of_memory(directory):
    """Leaves an eighth of the host's memory to the others, and one of them waiting."""
    total, available = host_memory()
    held = max(available - total // 8, 1 << 20)
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(held)], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout.readline() == "held\n"
            with waiting_for_memory(directory):
                yield
        finally:
            holder.kill()
