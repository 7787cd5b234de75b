"""The product under measurement: a noid-server of its own, and as thin a client as can be."""
import http.client
import json
import os
import pathlib
import select
import shutil
import socket
import subprocess
import tempfile
import time


IDLE_S = 5


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Product:
    """A running server with one user, in a directory below `parent`. Leaving the `with` ends it, its VMs and its
    files."""

    def __init__(self, bench, parent=None, **settings):
        self.binaries = bench.binaries
        images = bench.images
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="noid-bench-", dir=parent))
        self.data_dir = self.directory / "data"
        self.port = free_port()
        config = {"server": {"listen": f"127.0.0.1:{self.port}"},
                  "paths": {"data_dir": str(self.data_dir), "kernel": str(images / "vmlinux"),
                            "initrd": str(images / "initrd.cpio"), "rootfs": str(images / "debian-12.ext4"),
                            "netd_socket": str(self.directory / "netd.sock")},
                  "logging": {"level": "warn"}, **settings,
                  "vmm": {"kind": bench.vmm, **settings.get("vmm", {})},
                  # What is compared is on one file system.
                  "storage": {"pool": "never", **settings.get("storage", {})}}
        self.config = self.directory / "server.toml"
        self.config.write_text("".join(
            f"[{table}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
            for table, keys in config.items()))
        self.process = None
        self.token = self.command("user", "create", "bench").strip()

    def command(self, *arguments):
        return subprocess.run([self.binaries / "noid-server", *arguments, "--config", self.config], check=True,
                              capture_output=True, text=True, timeout=120).stdout

    def start(self):
        ours, theirs = os.pipe()
        with open(self.directory / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                [self.binaries / "noid-server", "serve", "--config", self.config, "--ready-fd", str(theirs)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[theirs])
        os.close(theirs)
        with os.fdopen(ours, "rb") as pipe:
            readable, _, _ = select.select([pipe], [], [], 60)
            if not readable or pipe.readline() != b"ready\n":
                raise RuntimeError((self.directory / "server.log").read_text()[-2000:])
        self.http = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        self.used = 0
        return self

    def connect(self):
        """The server closes connections that were idle for long; no measurement begins with such a one."""
        idle, self.used = time.monotonic() - self.used, time.monotonic()
        if self.http.sock is not None and idle < IDLE_S:
            return
        self.http.close()
        self.http.connect()
        self.http.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def request(self, method, path, body=None):
        self.connect()
        self.http.request(method, path, None if body is None else json.dumps(body),
                          {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"})
        answer = self.http.getresponse()
        content = answer.read()
        self.used = time.monotonic()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {content[:500]}")
        return json.loads(content) if content else None

    def page(self, path):
        self.connect()
        self.http.request("GET", path, None, {"Authorization": f"Bearer {self.token}"})
        return self.http.getresponse().read().decode()

    def resident_bytes(self):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("no VmRSS")

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        try:
            if self.process is not None and self.process.poll() is None:
                for vm in self.request("GET", "/v1/vms"):
                    self.request("DELETE", f"/v1/vms/{vm['name']}")
                self.process.terminate()
                self.process.wait(30)
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)
