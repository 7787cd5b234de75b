"""The floors on a host where Firecracker runs: Firecracker driven by hand over its socket, on the server's files."""
import http.client
import json
import os
import pathlib
import shutil
import socket
import subprocess

from reflink_disk import clone

AGENT_PORT = 1024
KERNEL_ARGUMENTS = ("console=ttyS0 reboot=k panic=1 quiet 8250.nr_uarts=1 i8042.noaux i8042.nomux i8042.dumbkbd "
                    "random.trust_cpu=on")


class Connection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=60)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(self.path)


class Machine:
    """A Firecracker that waits for commands; its working directory is `directory`, as in the server."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.agent = f"{self.directory}/v.sock:{AGENT_PORT}"
        ours, theirs = os.openpty()
        self.process = subprocess.Popen(
            ["firecracker", "--api-sock", "api.sock", "--log-path", "/proc/self/fd/2", "--level", "Info"],
            cwd=self.directory, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE)
        os.close(theirs)
        self.console = os.fdopen(ours, "r+b", buffering=0)
        for line in self.process.stderr:
            if b"Listening on API socket" in line:
                break
        self.api = Connection(self.directory / "api.sock")

    def request(self, method, path, body):
        self.api.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
        answer = self.api.getresponse()
        content = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {content[:500]}")

    def read_console(self):
        return self.console.read(65536)

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()
        self.console.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Booted(Machine):
    """Boots on construction; `agent` is the socket and port that lead to the agent."""

    def __init__(self, directory, images, memory):
        directory = pathlib.Path(directory)
        directory.mkdir()
        subprocess.run(["cp", "--reflink=auto", "--sparse=always", images / "debian-12.ext4",
                        directory / "rootfs.ext4"], check=True)
        super().__init__(directory)
        for path, body in [
            ("/machine-config", {"vcpu_count": 1, "mem_size_mib": memory, "track_dirty_pages": True}),
            ("/boot-source", {"kernel_image_path": str(images / "vmlinux"), "boot_args": KERNEL_ARGUMENTS,
                              "initrd_path": str(images / "initrd.cpio")}),
            ("/drives/rootfs", {"drive_id": "rootfs", "path_on_host": "rootfs.ext4", "is_root_device": True,
                                "is_read_only": False}),
            ("/vsock", {"guest_cid": 3, "uds_path": "v.sock"}),
            ("/entropy", {}),
            ("/actions", {"action_type": "InstanceStart"}),
        ]:
            self.request("PUT", path, body)


class Woken(Machine):
    """Runs as soon as it has been constructed: the snapshot's files are linked and cloned, nothing is copied."""

    def __init__(self, directory, snapshot, _memory):
        directory = pathlib.Path(directory)
        directory.mkdir()
        clone(snapshot / "rootfs.ext4", directory / "rootfs.ext4")
        for name in ("memory.snap", "vmstate.snap"):
            os.link(snapshot / name, directory / name)
        super().__init__(directory)
        self.request("PUT", "/snapshot/load", {
            "snapshot_path": "vmstate.snap", "mem_backend": {"backend_type": "File", "backend_path": "memory.snap"},
            "track_dirty_pages": True, "resume_vm": True})


class Saver:
    """Saves the machine again and again, each time what it has changed since."""

    def __init__(self, machine, *_):
        self.machine = machine
        self.last = machine.directory / "memory.snap"
        self.number = 0

    def prepare(self, _memory):
        """Nothing: Firecracker knows what was changed."""

    def save(self):
        """Leaves a whole snapshot; the one before is removed."""
        self.number += 1
        place = self.machine.directory / f"saved-{self.number}"
        place.mkdir()
        clone(self.last, place / "memory.snap")
        self.machine.request("PATCH", "/vm", {"state": "Paused"})
        self.machine.request("PUT", "/snapshot/create", {
            "snapshot_type": "Diff", "snapshot_path": f"{place.name}/vmstate.snap",
            "mem_file_path": f"{place.name}/memory.snap"})
        clone(self.machine.directory / "rootfs.ext4", place / "rootfs.ext4")
        self.machine.request("PATCH", "/vm", {"state": "Resumed"})
        if self.number > 1:
            shutil.rmtree(self.last.parent)
        self.last = place / "memory.snap"
