"""The floor for checkpoints: QEMU driven by hand on a snapshot that the server made."""
import ctypes
import json
import mmap
import os
import pathlib
import shutil
import socket
import struct
import subprocess

from qemu_booted import MACHINE
from reflink_disk import clone

PAGE = 4096
LIBC = ctypes.CDLL("libc.so.6", use_errno=True)
MOST_PIECES = 1024  # that one process_vm_readv() takes


class Piece(ctypes.Structure):
    _fields_ = [("address", ctypes.c_void_p), ("size", ctypes.c_size_t)]


class Woken:
    """Runs as soon as it has been constructed: the snapshot's files are linked and cloned, nothing is copied."""

    def __init__(self, directory, snapshot, memory):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir()
        self.agent = self.directory / "agent.sock"
        self.console = None
        clone(snapshot / "rootfs.ext4", self.directory / "rootfs.ext4")
        os.link(snapshot / "memory.snap", self.directory / "memory.snap")
        listeners = {name: self.listen(name) for name in ("control", "agent", "console")}
        numbers = {name: listener.fileno() for name, listener in listeners.items()}
        with open(snapshot / "vmstate.snap", "rb") as state:
            self.process = subprocess.Popen(
                ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
                 "-machine", f"{MACHINE},suppress-vmdesc=on,mem-merge=off,dump-guest-core=off,memory-backend=memory",
                 "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "1", "-m", f"{memory}M",
                 "-object", f"memory-backend-file,id=memory,size={memory}M,share=off,mem-path=memory.snap",
                 "-chardev", f"socket,id=control,fd={numbers['control']},server=on,wait=off",
                 "-mon", "chardev=control,mode=control",
                 "-chardev", f"socket,id=console,fd={numbers['console']},server=on,wait=off",
                 "-serial", "chardev:console",
                 "-chardev", f"socket,id=agent,fd={numbers['agent']},server=on,wait=off",
                 "-device", "virtio-serial-device,max_ports=2",
                 "-device", "virtserialport,chardev=agent,name=noid.agent",
                 "-blockdev", json.dumps({"node-name": "root", "driver": "raw", "discard": "unmap", "file": {
                     "driver": "file", "filename": "rootfs.ext4", "discard": "unmap"}}),
                 "-device", "virtio-blk-device,drive=root", "-device", "virtio-rng-device",
                 "-device", "virtio-balloon-device,deflate-on-oom=on,free-page-reporting=on,page-poison=off",
                 "-incoming", f"fd:{state.fileno()}", "-global", "migration.send-configuration=off"],
                cwd=self.directory, pass_fds=[state.fileno(), *numbers.values()], stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for listener in listeners.values():
            listener.close()

    def listen(self, name):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.directory / f"{name}.sock"))
        listener.listen()
        return listener

    def connect(self, name):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(60)
        connection.connect(str(self.directory / f"{name}.sock"))
        return connection

    def read_console(self):
        if self.console is None:
            self.console = self.connect("console")
        return self.console.recv(65536)

    def stop(self):
        self.process.kill()
        self.process.wait()
        if self.console is not None:
            self.console.close()
        shutil.rmtree(self.directory)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Monitor:
    """QMP to a machine."""

    def __init__(self, machine):
        self.stream = machine.connect("control").makefile("rwb")
        self.stream.readline()  # the greeting
        self.execute("qmp_capabilities")

    def execute(self, command, **arguments):
        self.stream.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        self.stream.flush()
        while True:
            answer = json.loads(self.stream.readline())
            if "error" in answer:
                raise RuntimeError(f"{command}: {answer['error']}")
            if "return" in answer:
                return answer["return"]


class Saver:
    """Incremental checkpoints by hand, of a machine that is told in advance which of its pages to write.

    So this floor looks for no changes. It is the least that has to happen while the guest stands still: stop,
    device state, the bytes over a clone of the memory that was made before, a clone of the disk, go on.
    """

    def __init__(self, machine, size):
        self.machine = machine
        self.size = size
        self.runs = []
        self.monitor = Monitor(machine)
        answer = self.monitor.execute("human-monitor-command", **{"command-line": "gpa2hva 0"})
        self.address = int(answer.split()[-1], 16)
        self.buffer = mmap.mmap(-1, size)
        self.number = 0

    def prepare(self, memory):
        """Looks for (offset, length) of the first `size` bytes that the guest itself has written, in neighbours."""
        with open(f"/proc/{self.machine.process.pid}/pagemap", "rb", buffering=0) as pagemap:
            entries = os.pread(pagemap.fileno(), memory // PAGE * 8, self.address // PAGE * 8)
        runs, found = [], 0
        for number, (entry,) in enumerate(struct.iter_unpack("Q", entries)):
            if found == self.size:
                break
            if entry >> 61 in (4, 2):  # present or swapped, and no file's
                if runs and runs[-1][0] + runs[-1][1] == number * PAGE:
                    runs[-1][1] += PAGE
                else:
                    runs.append([number * PAGE, PAGE])
                found += PAGE
        if found < self.size:
            raise RuntimeError("the guest has not written that much")
        self.runs = runs

    def save(self):
        """Leaves a whole snapshot, which is removed again once the guest goes on."""
        self.number += 1
        place = self.machine.directory / f"saved-{self.number}"
        place.mkdir()
        clone(self.machine.directory / "memory.snap", place / "memory.snap")
        base = ctypes.addressof(ctypes.c_char.from_buffer(self.buffer))
        pieces = [Piece(self.address + offset, size) for offset, size in self.runs]
        with open(place / "memory.snap", "r+b") as memory, memoryview(self.buffer) as view:
            self.monitor.execute("stop")
            self.monitor.execute("xen-save-devices-state", filename=str(place / "vmstate.snap"), live=True)
            done = 0
            for first in range(0, len(pieces), MOST_PIECES):
                some = pieces[first:first + MOST_PIECES]
                size = sum(piece.size for piece in some)
                local = Piece(base + done, size)
                got = LIBC.process_vm_readv(self.machine.process.pid, ctypes.byref(local), 1,
                                            (Piece * len(some))(*some), len(some), 0)
                if got != size:
                    raise OSError(ctypes.get_errno(), "process_vm_readv")
                done += size
            at = 0
            for offset, size in self.runs:
                os.pwrite(memory.fileno(), view[at:at + size], offset)
                at += size
            clone(self.machine.directory / "rootfs.ext4", place / "rootfs.ext4")
            self.monitor.execute("cont")
        shutil.rmtree(place)
