"""Fixtures for the end-to-end tests: real binaries, real sockets, real microVMs.

NOID_TEST_BIN     directory of noid, noid-server, noid-netd, noid-agent   (default build/asan/bin)
NOID_TEST_IMAGES  directory of vmlinux, initrd.cpio, debian-12.ext4       (default build/check/data/images)
NOID_TEST_VMM     "qemu" (default) or "firecracker"
"""
import contextlib
import json
import os
import pathlib
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import uuid

import pytest
import requests

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("NOID_TEST_BIN", ROOT / "build/asan/bin"))
IMAGES = pathlib.Path(os.environ.get("NOID_TEST_IMAGES", ROOT / "build/check/data/images"))
VMM = os.environ.get("NOID_TEST_VMM", "qemu")
GUEST_MEMORY = 192  # MiB; enough for Debian with the agent as PID 1


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="also tests that take minutes")


def pytest_configure(config):
    config.addinivalue_line("markers", "long: takes minutes; runs with --long")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--long"):
        return
    for item in items:
        if "long" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="takes minutes: --long"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A test that fails shows what the servers said."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        report.sections += [(f"the end of {server.log}", server.last_words()) for server in Server.present]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Api:
    """One user's view of a server: requests with the token, answers checked by the test."""

    def __init__(self, url, token):
        self.url = url
        self.token = token
        self.http = requests.Session()
        self.http.trust_env = False
        if token is not None:
            self.http.headers["Authorization"] = f"Bearer {token}"

    def request(self, method, path, **kwargs):
        kwargs.setdefault("timeout", 120)
        return self.http.request(method, self.url + path, **kwargs)

    def get(self, path, **kwargs):
        return self.request("GET", path, **kwargs)

    def post(self, path, **kwargs):
        return self.request("POST", path, **kwargs)

    def put(self, path, **kwargs):
        return self.request("PUT", path, **kwargs)

    def delete(self, path, **kwargs):
        return self.request("DELETE", path, **kwargs)

    def create(self, name, **fields):
        body = {"name": name, "cpus": 1, "mem_mib": GUEST_MEMORY, **fields}
        answer = self.post("/v1/vms", json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def destroy(self, name):
        answer = self.delete(f"/v1/vms/{name}")
        assert answer.status_code == 204, answer.text

    def exec(self, name, *command, **fields):
        # The server's limit holds, not the client's.
        limit = fields.get("timeout_ms", 0) / 1000 + 120
        answer = self.post(f"/v1/vms/{name}/exec", json={"command": list(command), **fields}, timeout=limit)
        assert answer.status_code == 200, answer.text
        return answer.json()


class Server:
    """A noid-server process with a data directory of its own."""

    present = []

    def __init__(self, directory, **settings):
        self.directory = pathlib.Path(directory)
        self.data_dir = self.directory / "data"
        self.data_dir.mkdir(exist_ok=True)
        self.config = self.directory / "server.toml"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = self.directory / "server.log"
        self.process = None
        self.write_config(settings)
        Server.present.append(self)

    def write_config(self, settings):
        tables = {
            "server": {"listen": f"127.0.0.1:{self.port}"},
            "paths": {
                "data_dir": str(self.data_dir),
                "kernel": str(IMAGES / "vmlinux"),
                "initrd": str(IMAGES / "initrd.cpio"),
                "rootfs": str(IMAGES / "debian-12.ext4"),
                "netd_socket": str(self.directory / "netd.sock"),
            },
            "vmm": {"kind": VMM},
            "storage": {"pool": "never"},  # tests/e2e/test_storage.py mounts one
            "logging": {"level": "debug"},
        }
        for name, table in settings.items():
            tables.setdefault(name, {}).update(table)
        with open(self.config, "w") as out:
            for name, table in tables.items():
                out.write(f"[{name}]\n")
                for key, value in table.items():
                    out.write(f"{key} = {json.dumps(value)}\n")

    def start(self):
        """Starts it and waits until it says that it listens."""
        assert self.process is None
        ours, theirs = os.pipe()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [BIN / "noid-server", "serve", "--config", self.config, "--ready-fd", str(theirs)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[theirs],
                env={**os.environ, "HOME": str(self.directory)})
        os.close(theirs)
        with os.fdopen(ours, "rb") as pipe:
            readable, _, _ = select.select([pipe], [], [], 120)
            said = pipe.readline() if readable else b""
        assert said == b"ready\n", f"server did not start:\n{self.log.read_text(errors='replace')[-4000:]}"
        return self

    def stop(self, sig=signal.SIGTERM):
        if self.process is None:
            return None
        self.process.send_signal(sig)
        code = self.process.wait(60)
        self.process = None
        return code

    def command(self, *arguments, check=True):
        """noid-server as an administrator runs it, against this data directory."""
        done = subprocess.run([BIN / "noid-server", *arguments, "--config", self.config], timeout=120,
                              capture_output=True, text=True, env={**os.environ, "HOME": str(self.directory)})
        assert not check or done.returncode == 0, done.stderr
        return done

    def make_user(self, name=None):
        """A new user's view of this server."""
        name = name or "u" + uuid.uuid4().hex[:8]
        token = self.command("user", "create", name).stdout.strip()
        api = Api(self.url, token)
        api.name = name
        return api

    def anonymous(self):
        return Api(self.url, None)

    def vmm_processes(self):
        """Pids of processes that hold something of this data directory as working directory."""
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if os.readlink(entry / "cwd").startswith(str(self.data_dir)):
                        found.append(int(entry.name))
        return found

    def last_words(self):
        return self.log.read_text(errors="replace")[-6000:] if self.log.exists() else ""

    def destroy_everything(self):
        if self.process is not None and self.process.poll() is None:
            self.stop()
        for pid in self.vmm_processes():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        Server.present.remove(self)


@pytest.fixture
def server_factory():
    """Makes servers that are gone, with all they left, when the test ends."""
    servers = []

    def make(**settings):
        server = Server(tempfile.mkdtemp(prefix="noid-e2e-"), **settings)
        servers.append(server)
        return server

    yield make
    for server in servers:
        server.destroy_everything()
        shutil.rmtree(server.directory, ignore_errors=True)


@pytest.fixture(scope="module")
def server():
    """The server that the tests of one file share; each works as a user of its own."""
    shared = Server(tempfile.mkdtemp(prefix="noid-e2e-"))
    shared.start()
    yield shared
    log = shared.log.read_text(errors="replace")
    shared.destroy_everything()
    shutil.rmtree(shared.directory, ignore_errors=True)
    assert "ERROR: AddressSanitizer" not in log and "runtime error:" not in log, log[-8000:]


@pytest.fixture
def client(server):
    """A fresh user's Api on the shared server; the user and all VMs are removed afterwards."""
    api = server.make_user()
    yield api
    server.command("user", "delete", api.name)


@pytest.fixture(scope="module")
def shared_client(server):
    return server.make_user("shared")


@pytest.fixture(scope="module")
def vm(shared_client):
    """Name of a running VM of `shared_client`, for tests that leave no trace in it."""
    shared_client.create("shared-vm")
    return "shared-vm"


class Cli:
    """The noid program with a home directory of its own."""

    def __init__(self, home, api=None):
        self.home = pathlib.Path(home)
        self.environment = {
            "HOME": str(self.home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8",
            **{k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")},
        }
        if api is not None:
            self("auth", "setup", "--url", api.url, "--token", api.token)

    def __call__(self, *arguments, check=True, **kwargs):
        kwargs.setdefault("timeout", 120)
        kwargs.setdefault("text", True)
        if "stdin" not in kwargs and "input" not in kwargs:
            kwargs["stdin"] = subprocess.DEVNULL
        done = subprocess.run([BIN / "noid", *arguments], capture_output=True, env=self.environment,
                              cwd=self.home, **kwargs)
        assert not check or done.returncode == 0, (done.returncode, done.stdout, done.stderr)
        return done

    def start(self, *arguments, **kwargs):
        """The program running beside the test."""
        return subprocess.Popen([BIN / "noid", *arguments], env=self.environment, cwd=self.home, **kwargs)


@pytest.fixture
def noid(shared_client, tmp_path):
    """The CLI, configured for the shared user."""
    return Cli(tmp_path, shared_client)
