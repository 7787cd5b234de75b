"""Real microVMs in the slots of a real noid-netd: fixtures and what tests do with their guests."""
import os
import shutil
import tempfile

import pytest

from conftest import BIN, IMAGES, Server, free_port
from netd_world import ELSEWHERE, World, read_line
from waiting import until

NEEDS_A_NETWORK = pytest.mark.skipif(
    os.geteuid() != 0 or not (BIN / "noid-netd").exists() or not (IMAGES / "vmlinux").exists(),
    reason="needs root, noid-netd, and a guest's kernel and image")

PORT = 80
MTU = 1420  # of the way to the internet


@pytest.fixture(scope="module")
def world():
    world = World(ready=4)
    for namespace, device in ((world.host, "wan0"), (world.internet, "net0")):
        namespace.ip("link", "set", device, "mtu", MTU)
    world.start()
    world.echo(world.internet, PORT)
    world.echo(world.host, 22)
    world.name_server().records["www.example.test"] = [ELSEWHERE]
    yield world
    world.close()


@pytest.fixture(scope="module")
def networked_server(world):
    metrics = f"127.0.0.1:{free_port()}"
    server = Server(tempfile.mkdtemp(prefix="noid-e2e-"), paths={"netd_socket": str(world.socket_path)},
                    server={"metrics_listen": metrics})
    server.metrics = f"http://{metrics}/metrics"
    server.start()
    yield server
    server.destroy_everything()
    shutil.rmtree(server.directory, ignore_errors=True)


@pytest.fixture
def api(networked_server):
    api = networked_server.make_user()
    yield api
    networked_server.command("user", "delete", api.name)


def bash(api, vm, script, check=True):
    done = api.exec(vm, "bash", "-c", script, timeout_ms=300_000)
    assert not check or done["exit_code"] == 0, done
    return done


def peer_seen_by(api, vm, address, port=PORT, within=4):
    """As whom the internet sees the guest; None when it does not get there within as many seconds."""
    done = bash(api, vm, f"timeout {within} bash -c 'exec 3<>/dev/tcp/{address}/{port} && head -n1 <&3'", check=False)
    return done["stdout"].strip().splitlines()[-1] if done["exit_code"] == 0 else None


def address_of(api, vm):
    return api.get(f"/v1/vms/{vm}").json()["address"]


def reachable_from_host(world, address, port):
    with world.host.socket() as connection:
        connection.settimeout(20)
        connection.connect((address, port))
        return read_line(connection)


def set_network(api, vm, **settings):
    answer = api.put(f"/v1/vms/{vm}/network", json=settings)
    assert answer.status_code == 200, answer.text
    return answer.json()


NAME_PORT = 7000
SAY_NAME = f"""
import socket
server = socket.create_server(("", {NAME_PORT}))
while True:
    connection, _ = server.accept()
    connection.sendall(socket.gethostname().encode() + b"\\n")
    connection.close()
"""


def say_name(api, vm):
    """Starts a service in the guest, no session's, that tells whoever connects the guest's name."""
    bash(api, vm, f"setsid python3 -c '{SAY_NAME}' </dev/null >/dev/null 2>&1 & "
                  f"until grep -q :{NAME_PORT:04X} /proc/net/tcp; do sleep 0.1; done")


def state_of(api, vm):
    """Once its wake has come to its end: a guest may answer before."""
    return until(lambda: api.get(f"/v1/vms/{vm}").json()["state"], lambda state: state != "starting")
