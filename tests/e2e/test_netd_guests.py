"""Real microVMs in the slots of a real noid-netd: what netd_world's internet hears of them."""
import concurrent.futures
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import tempfile
import threading
import time

import pytest
import requests

from conftest import Server
from netd_world import ELSEWHERE, GATEWAY, HOST, INTERNET, METADATA, World, read_line
from networked_vms import (MTU, NAME_PORT, NEEDS_A_NETWORK, PORT, address_of, api, bash,  # noqa: F401
                           networked_server, peer_seen_by, reachable_from_host, say_name, set_network, state_of,
                           world)

pytestmark = NEEDS_A_NETWORK

DOWNLOAD_PORT = 8000


def test_what_a_real_guest_reaches(world, api):
    api.create("one")
    api.create("two")
    addresses = {vm: address_of(api, vm) for vm in ("one", "two")}
    assert len(set(addresses.values())) == 2 and all(a.startswith("172.16.") for a in addresses.values())
    inside = [bash(api, vm, "cat /proc/net/fib_trie /etc/resolv.conf")["stdout"] for vm in ("one", "two")]
    assert "10.200.0.2" in inside[0] and f"nameserver {GATEWAY}" in inside[0]
    assert "10.200.0.2" in inside[1], "the same in every guest"
    assert bash(api, "one", "hostname; getent hosts $(hostname)")["stdout"].split()[::2] == ["one", "one"]
    assert bash(api, "one", "cat /sys/class/net/e*/mtu")["stdout"].strip() == str(MTU)

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


def sample(page, metric, user, vm):
    """A VM's value on a page of metrics; None when it is not there."""
    found = re.search(rf'^{metric}{{user="{user}",vm="{vm}"}} (\d+)$', page, re.MULTILINE)
    return found and int(found[1])


def test_each_vms_traffic_is_in_the_metrics_of_whom_it_concerns(networked_server, api):
    other = networked_server.make_user()
    api.create("web")
    other.create("db")
    assert peer_seen_by(api, "web", INTERNET) == HOST
    set_network(api, "web", mode="egress")
    assert peer_seen_by(api, "web", INTERNET) is None
    assert peer_seen_by(api, "web", METADATA) is None

    all_of_them = requests.get(networked_server.metrics, timeout=30).text
    for metric in ("sent_bytes", "sent_packets", "received_bytes", "received_packets", "dropped_packets",
                   "denied_packets"):
        assert sample(all_of_them, "noid_vm_network_" + metric, api.name, "web") > 0, metric
    assert sample(all_of_them, "noid_vm_network_connections", other.name, "db") == 0
    total = int(re.search(r"^noid_network_denied_packets (\d+)$", all_of_them, re.MULTILINE)[1])
    assert total >= sample(all_of_them, "noid_vm_network_denied_packets", api.name, "web")
    assert re.search("^noid_vm_network_unnamed 0$", all_of_them, re.MULTILINE)

    mine = api.get("/metrics").text
    assert sample(mine, "noid_vm_network_sent_bytes", api.name, "web") > 0
    assert other.name not in mine and '"db"' not in mine, "another user's VMs are not named"
    shown = api.get("/v1/vms/web").json()["traffic"]
    assert shown["denied_packets"] > 0 and shown["dropped_packets"] > 0
    other.destroy("db")
    networked_server.command("user", "delete", other.name)
    assert other.name not in requests.get(networked_server.metrics, timeout=30).text


def test_settings_hold_while_the_vm_runs_and_wherever_it_wakes(world, api):
    api.create("picky", network="none")
    assert peer_seen_by(api, "picky", INTERNET) is None
    assert peer_seen_by(api, "picky", "www.example.test") is None, "names do not resolve"
    set_network(api, "picky", mode="open")
    assert peer_seen_by(api, "picky", INTERNET) == HOST
    saved = api.post("/v1/vms/picky/checkpoints", json={"name": "open"})
    assert saved.status_code == 201, saved.text

    rules = [{"action": "allow", "to": "*.example.test", "ports": [str(PORT)]}]
    set_network(api, "picky", mode="egress", rules=rules)

    def only_the_name_is_reached(vm):
        assert peer_seen_by(api, vm, "www.example.test") == HOST
        assert peer_seen_by(api, vm, INTERNET) is None
        assert peer_seen_by(api, vm, "www.example.test", DOWNLOAD_PORT) is None

    only_the_name_is_reached("picky")
    assert api.post("/v1/vms/picky/suspend").status_code == 200
    only_the_name_is_reached("picky")
    assert api.post("/v1/vms/picky/restore", json={"checkpoint_id": "open", "keep_present": False}).status_code == 200
    assert api.get("/v1/vms/picky/network").json()["rules"] == rules, "a restore does not open what was closed since"
    only_the_name_is_reached("picky")
    assert api.post("/v1/vms/picky/fork", json={"names": ["picky-too"]}).status_code in (200, 201)
    only_the_name_is_reached("picky-too")


class Download(threading.Thread):
    """Serves `size` bytes slowly to one client, and knows their hash."""

    def __init__(self, namespace, size):
        super().__init__(daemon=True)
        self.listener = namespace.listen(DOWNLOAD_PORT)
        self.listener.settimeout(120)
        self.pieces = [os.urandom(16 * 1024) for _ in range(size // (16 * 1024))]
        self.sha256 = hashlib.sha256(b"".join(self.pieces)).hexdigest()
        self.half_way = threading.Event()
        self.go_on = threading.Event()
        self.start()

    def run(self):
        connection, _ = self.listener.accept()
        with connection:
            connection.settimeout(120)
            for number, piece in enumerate(self.pieces):
                if number == len(self.pieces) // 2:
                    self.half_way.set()
                # While the checkpoint is made, some of it is always on its way.
                if self.half_way.is_set() and not self.go_on.is_set():
                    time.sleep(0.02)
                connection.sendall(piece)
        self.listener.close()


def test_a_download_survives_a_checkpoint(world, api):
    api.create("busy")
    download = Download(world.internet, 8 << 20)
    script = f"exec 3<>/dev/tcp/{INTERNET}/{DOWNLOAD_PORT}; sha256sum <&3 >/run/sum.new; mv /run/sum.new /run/sum"
    started = api.post("/v1/vms/busy/exec", json={"command": ["bash", "-c", script], "detach": True})
    assert started.status_code < 300, started.text
    assert download.half_way.wait(60)
    saved = api.post("/v1/vms/busy/checkpoints", json={"name": "midway"})
    assert saved.status_code == 201, saved.text
    assert download.is_alive(), "it was in progress all the time"
    download.go_on.set()
    download.join(120)
    done = bash(api, "busy", "for i in $(seq 300); do [ -e /run/sum ] && break; sleep 0.1; done; cat /run/sum")
    assert done["stdout"].split()[0] == download.sha256


def test_servers_and_daemon_agree_again_whoever_was_killed(world, networked_server, api):
    other = Server(tempfile.mkdtemp(prefix="noid-e2e-"), paths={"netd_socket": str(world.socket_path)})
    other.start()
    try:
        neighbour = other.make_user()
        neighbour.create("neighbour")
        for vm in ("goes", "stays"):
            api.create(vm)
        world.stop(signal.SIGKILL)
        api.destroy("goes")  # its slot cannot be given back now, and the server that knows this dies
        networked_server.stop(signal.SIGKILL)
        world.start()
        assert len(world.ask("stats")["vms"]) == 3
        networked_server.start()
        assert len(world.ask("stats")["vms"]) == 2, "what was leaked is free, and the other server's is not touched"
        assert peer_seen_by(api, "stays", INTERNET) == HOST
        assert peer_seen_by(neighbour, "neighbour", INTERNET) == HOST
    finally:
        other.destroy_everything()
        shutil.rmtree(other.directory, ignore_errors=True)


@pytest.mark.long
def test_an_idle_vm_sleeps_but_not_under_a_connection(world, api):
    api.create("idler")
    say_name(api, "idler")
    answer = api.put("/v1/vms/idler/policy", json={"checkpoint_keep": 1, "idle_suspend_s": 10})
    assert answer.status_code == 200, answer.text
    # Nobody is attached and no command runs: only the connection keeps it awake.
    with connection_held_by_a_daemon(world, api, "idler") as listener_side:
        time.sleep(25)
        assert api.get("/v1/vms/idler").json()["state"] == "running"
        listener_side.close()
    world.wait_until(lambda: state_of(api, "idler") == "suspended", limit=60)
    assert bash(api, "idler", "echo awake")["stdout"] == "awake\n"
    world.wait_until(lambda: state_of(api, "idler") == "suspended", limit=60)
    assert reachable_from_host(world, address_of(api, "idler"), NAME_PORT) == "idler", "it wakes for whoever connects"
    assert state_of(api, "idler") == "running"


@contextlib.contextmanager
def connection_held_by_a_daemon(world, api, vm):
    """A connection of a process in the guest that is no session's; gives the internet's end."""
    with world.internet.listen(DOWNLOAD_PORT) as listener:
        listener.settimeout(60)
        script = f"exec 3<>/dev/tcp/{INTERNET}/{DOWNLOAD_PORT}; read -r _ <&3"
        bash(api, vm, f"setsid bash -c '{script}' </dev/null >/dev/null 2>&1 & disown")
        connection, _ = listener.accept()
        with connection:
            yield connection


@pytest.mark.long
def test_a_checkpoint_has_the_right_network_on_another_host(world, api):
    api.create("traveller")
    bash(api, "traveller", "echo here >/run/where")
    saved = api.post("/v1/vms/traveller/checkpoints", json={"name": "trip"})
    assert saved.status_code == 201, saved.text
    stream = api.get("/v1/vms/traveller/checkpoints/trip/export", timeout=300)
    away = World(ready=1, pool="172.31.0.0/16")
    server = Server(tempfile.mkdtemp(prefix="noid-e2e-"), paths={"netd_socket": str(away.socket_path)})
    try:
        away.start()
        away.echo(away.internet, PORT)
        server.start()
        there = server.make_user()
        there.create("anchor")
        taken = there.post("/v1/vms/anchor/checkpoints/import?name=trip", data=stream.content, timeout=300)
        assert taken.status_code == 201, taken.text
        woken = there.post("/v1/vms/anchor/restore", json={"checkpoint_id": "trip", "new_name": "traveller"})
        assert woken.status_code == 200, woken.text
        assert bash(there, "traveller", "cat /run/where")["stdout"] == "here\n"
        assert address_of(there, "traveller").startswith("172.31.")
        assert peer_seen_by(there, "traveller", INTERNET) == HOST
    finally:
        server.destroy_everything()
        away.close()
        shutil.rmtree(server.directory, ignore_errors=True)


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
    forked = api.post("/v1/vms/parent/fork", json={"names": [f"clone{i}" for i in range(10)]})
    assert forked.status_code in (200, 201), forked.text
    vms = ["parent"] + [f"clone{i}" for i in range(10)]
    addresses = [address_of(api, vm) for vm in vms]
    assert len(set(addresses)) == len(vms)
    inner = [bash(api, vm, "cat /sys/class/net/e*/address; cat /proc/net/route")["stdout"] for vm in vms]
    assert len(set(inner)) == 1, "inside nothing tells them apart"
    with concurrent.futures.ThreadPoolExecutor(len(vms)) as pool:
        # All at once they share the host's processors.
        assert list(pool.map(lambda vm: peer_seen_by(api, vm, INTERNET, within=60), vms)) == [HOST] * len(vms)
        list(pool.map(lambda vm: say_name(api, vm), vms))
        answers = pool.map(lambda address: reachable_from_host(world, address, NAME_PORT), addresses)
        assert list(answers) == vms, "each at its own outer address"


def test_without_netd_a_vm_has_no_network_and_says_so(server_factory, tmp_path):
    server = server_factory(paths={"netd_socket": str(tmp_path / "absent.sock")})
    server.start()
    api = server.make_user()
    made = api.create("alone")
    assert any("is noid-netd running?" in warning for warning in made.get("warnings", [])), json.dumps(made)
    assert api.exec("alone", "true")["exit_code"] == 0
    api.create("alone-too")
    assert len(re.findall("VMs are made without a network", server.log.read_text())) == 1
