"""A shortage of memory that the host's kernel reports, felt by nobody but one process in a control group."""
import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile

CGROUP1 = pathlib.Path("/sys/fs/cgroup/memory")
CGROUP2 = pathlib.Path("/sys/fs/cgroup")
MEMORY = 16 << 20
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


def _place():
    """Where a group is made, and the file that limits its memory; none where this host has no such thing."""
    if os.geteuid() != 0 or not os.path.exists("/proc/pressure/memory"):
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
def shortage_of_memory(directory):
    """`directory` lies on a disk: what is in memory only cannot be reclaimed."""
    parent, limit = _place()
    group = pathlib.Path(tempfile.mkdtemp(prefix="noid-test-", dir=parent))

    def join():
        (group / "cgroup.procs").write_text(str(os.getpid()))

    try:
        (group / limit).write_text(str(MEMORY))
        with subprocess.Popen([sys.executable, "-c", READER, directory / "larger-than-memory"],
                              preexec_fn=join) as reader:
            try:
                yield
            finally:
                reader.kill()
    finally:
        group.rmdir()
