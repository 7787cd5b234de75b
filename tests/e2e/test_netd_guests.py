"""Real microVMs in the slots of a real noid-netd: what netd_world's internet hears of them."""
import concurrent.futures
import json
import os
import re
import shutil
import signal
import tempfile

import pytest

from conftest import BIN, IMAGES, Server
from netd_world import ELSEWHERE, GATEWAY, HOST, INTERNET, METADATA, World, read_line

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not (BIN / "noid-netd").exists() or not (IMAGES / "vmlinux").exists(),
    reason="needs root, noid-netd, and a guest's kernel and image")

PORT = 80


@pytest.fixture(scope="module")
def world():
    world = World(ready=4)
    world.start()
    world.echo(world.internet, PORT)
    world.echo(world.host, 22)
    world.name_server().records["www.example.test"] = [ELSEWHERE]
    yield world
    world.close()


@pytest.fixture(scope="module")
def networked_server(world):
    server = Server(tempfile.mkdtemp(prefix="noid-e2e-"), paths={"netd_socket": str(world.socket_path)})
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
    done = api.exec(vm, "bash", "-c", script, timeout_ms=60_000)
    assert not check or done["exit_code"] == 0, done
    return done


def peer_seen_by(api, vm, address, port=PORT):
    """As whom the internet sees the guest; None when it does not get there."""
    done = bash(api, vm, f"timeout 4 bash -c 'exec 3<>/dev/tcp/{address}/{port} && head -n1 <&3'", check=False)
    return done["stdout"].strip().splitlines()[-1] if done["exit_code"] == 0 else None


def address_of(api, vm):
    return api.get(f"/v1/vms/{vm}").json()["address"]


def reachable_from_host(world, address, port):
    with world.host.socket() as connection:
        connection.settimeout(20)
        connection.connect((address, port))
        return read_line(connection)


def test_what_a_real_guest_reaches(world, api):
    api.create("one")
    api.create("two")
    addresses = {vm: address_of(api, vm) for vm in ("one", "two")}
    assert len(set(addresses.values())) == 2 and all(a.startswith("172.16.") for a in addresses.values())
    inside = [bash(api, vm, "cat /proc/net/fib_trie /etc/resolv.conf")["stdout"] for vm in ("one", "two")]
    assert "10.200.0.2" in inside[0] and f"nameserver {GATEWAY}" in inside[0]
    assert "10.200.0.2" in inside[1], "the same in every guest"

    assert peer_seen_by(api, "one", INTERNET) == HOST
    assert peer_seen_by(api, "two", ELSEWHERE) == HOST
    assert bash(api, "one", "getent ahostsv4 www.example.test")["stdout"].split()[0] == ELSEWHERE
    assert peer_seen_by(api, "one", "www.example.test") == HOST
    for closed, port in ((HOST, 22), (METADATA, PORT), (addresses["two"], 22), (addresses["one"], 22),
                         ("172.16.0.1", 22)):
        assert peer_seen_by(api, "one", closed, port) is None, closed
    stats = {s["guest_ip"]: s for s in world.ask("stats")["vms"]}
    assert stats[addresses["one"]]["isolated"]["packets"] > 0
    assert stats[addresses["one"]]["received"]["bytes"] > 0

    for vm in ("one", "two"):
        api.destroy(vm)
    assert not {s["guest_ip"] for s in world.ask("stats")["vms"]} & set(addresses.values()), "slots are given back"


def test_modes_of_a_real_guest(world, api):
    api.create("closed", network="none")
    assert peer_seen_by(api, "closed", INTERNET) is None
    assert api.get("/v1/vms/closed").json().get("address") in (None, "")
    api.create("picky", network="egress")
    assert peer_seen_by(api, "picky", INTERNET) is None
    vm = next(s["vm"] for s in world.ask("stats")["vms"] if s["guest_ip"] == address_of(api, "picky"))
    world.ask("policy", vm=vm, policy={"mode": "egress", "rules": [{"action": "allow", "to": "*.example.test"}]})
    assert peer_seen_by(api, "picky", "www.example.test") == HOST
    assert peer_seen_by(api, "picky", INTERNET) is None


def test_a_connection_survives_server_and_daemon(world, networked_server, api):
    api.create("patient")
    script = f"exec 3<>/dev/tcp/{INTERNET}/{PORT}; read -r who <&3; echo $who >/run/who; " \
             "while read -r line </run/ask; do echo $line >&3; read -r back <&3; echo $back >/run/answer; done"
    bash(api, "patient", "mkfifo /run/ask /run/answer")
    started = api.post("/v1/vms/patient/exec", json={"command": ["bash", "-c", script], "detach": True})
    assert started.status_code < 300, started.text
    assert bash(api, "patient", "echo first >/run/ask; cat /run/answer")["stdout"] == "first\n"
    networked_server.stop(signal.SIGKILL)
    world.stop(signal.SIGKILL)
    world.start()
    networked_server.start()
    assert bash(api, "patient", "echo second >/run/ask; cat /run/answer")["stdout"] == "second\n"
    assert peer_seen_by(api, "patient", INTERNET) == HOST


def test_clones_answer_at_the_same_time_under_addresses_of_their_own(world, api):
    api.create("parent")
    bash(api, "parent", "command -v python3 || command -v perl")
    forked = api.post("/v1/vms/parent/fork", json={"names": [f"clone{i}" for i in range(9)]})
    assert forked.status_code in (200, 201), forked.text
    vms = ["parent"] + [f"clone{i}" for i in range(9)]
    addresses = [address_of(api, vm) for vm in vms]
    assert len(set(addresses)) == len(vms)
    inner = [bash(api, vm, "cat /sys/class/net/e*/address; cat /proc/net/route")["stdout"] for vm in vms]
    assert len(set(inner)) == 1, "inside nothing tells them apart"
    with concurrent.futures.ThreadPoolExecutor(len(vms)) as pool:
        assert list(pool.map(lambda vm: peer_seen_by(api, vm, INTERNET), vms)) == [HOST] * len(vms)


def test_without_netd_a_vm_has_no_network_and_says_so(server_factory, tmp_path):
    server = server_factory(paths={"netd_socket": str(tmp_path / "absent.sock")})
    server.start()
    api = server.make_user()
    made = api.create("alone")
    assert any("is noid-netd running?" in warning for warning in made.get("warnings", [])), json.dumps(made)
    assert api.exec("alone", "true")["exit_code"] == 0
    api.create("alone-too")
    assert len(re.findall("VMs are made without a network", server.log.read_text())) == 1
