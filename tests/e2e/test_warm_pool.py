"""VMs that are kept ready: what a create gets out of the pool, and what is left of it when the server ends."""
import concurrent.futures
import contextlib
import os
import signal
import subprocess
import time

import pytest

from conftest import GUEST_MEMORY
from memory_shortage import HAS_IT, shortage_of_memory, wait_until_felt, waiting_for_memory
from netd_world import HOST, INTERNET, World
from networked_vms import NEEDS_A_NETWORK, PORT, address_of, peer_seen_by

SIZE = 3


@contextlib.contextmanager
def log_lines(server, patience=300):
    """The lines of the server's log as they are written, from the first one on."""
    with subprocess.Popen(["timeout", str(patience), "tail", "-n", "+1", "-F", server.log],
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as tail:
        try:
            yield iter(tail.stdout.readline, "")
        finally:
            tail.terminate()


def wait_for(server, text, times):
    with log_lines(server) as lines:
        for line in lines:
            times -= text in line
            if times == 0:
                return
    raise AssertionError(f"'{text}' was not logged:\n{server.log.read_text()[-3000:]}")


def kept(server):
    return {one.name for one in (server.data_dir / "warm").iterdir()}


@pytest.fixture
def pooled(server_factory):
    """A server that keeps VMs ready, and a user with the VM that was booted for it."""
    server = server_factory(pool={"size": SIZE, "memory": SIZE * GUEST_MEMORY}).start()
    user = server.make_user()
    assert user.create("first")["start"] == "boot"
    wait_for(server, "VM kept ready", SIZE)
    return server, user


def test_vms_of_the_pool_become_machines_of_their_own(pooled):
    server, user = pooled
    assert len(kept(server)) == SIZE and len(server.vmm_processes()) == SIZE + 1
    script = ("head -c 16 /dev/urandom | od -An -tx1; hostname; cat /etc/machine-id; "
              "cat /proc/sys/kernel/random/boot_id; date +%s; echo $WHO; ls -A /root /tmp /run/noid 2>/dev/null | wc -l")

    def create(name):
        made = user.create(name, env=[f"WHO={name}"])
        assert made["start"] == "pool" and made["state"] == "running", made
        return user.exec(name, "sh", "-c", script)["stdout"].split("\n")

    names = [f"vm{number}" for number in range(SIZE)]
    with concurrent.futures.ThreadPoolExecutor(SIZE) as threads:
        answers = list(threads.map(create, names))
    answers.append(user.exec("first", "sh", "-c", script)["stdout"].split("\n"))
    for what, values in zip(("entropy", "hostname", "machine-id", "boot id"), zip(*answers)):
        assert len(set(values)) == SIZE + 1, what
    for name, answer in zip(names, answers):
        assert answer[1] == name and answer[5] == name
        assert abs(int(answer[4]) - time.time()) < 30, "its clock was stepped"

    # They are VMs like any other.
    user.exec("vm0", "sh", "-c", "echo here > /root/mark; sync")
    saved = user.post("/v1/vms/vm0/checkpoints", json={}).json()
    answer = user.post("/v1/vms/vm0/restore", json={"checkpoint_id": saved["id"], "new_name": "twin"})
    assert answer.ok, answer.text
    assert user.exec("twin", "cat", "/root/mark")["stdout"] == "here\n"
    assert user.post("/v1/vms/vm1/suspend").ok
    assert user.exec("vm1", "hostname")["stdout"] == "vm1\n"
    numbers = user.get("/metrics").text
    assert f"noid_pool_given_total {SIZE}\n" in numbers, numbers
    for name in [*names, "twin", "first"]:
        user.destroy(name)
    server.stop()
    assert server.vmm_processes() == [] and kept(server) == set()


def test_a_server_that_was_killed_leaves_nothing_of_its_pool(pooled):
    server, user = pooled
    before = set(server.vmm_processes())
    places = kept(server)
    server.stop(signal.SIGKILL)
    assert set(server.vmm_processes()) == before
    with open(server.log, "w"):
        pass
    server.start()
    wait_for(server, "VM kept ready", SIZE)
    assert not kept(server) & places
    assert len(set(server.vmm_processes()) & before) == 1, "only the user's VM goes on"
    assert user.exec("first", "hostname")["stdout"] == "first\n"
    assert user.create("next")["start"] == "pool"


NEEDS_A_SHORTAGE = pytest.mark.skipif(
    not HAS_IT, reason="needs root, control groups with memory, and pressure stall information")


@pytest.mark.long  # on a host with much memory
@NEEDS_A_SHORTAGE
def test_the_pool_gives_way_when_the_host_is_short_of_memory(pooled):
    server, user = pooled
    with shortage_of_memory(server.data_dir):
        wait_for(server, "the pool gives way: the host is short of memory", 1)
    # Nobody else does, and a create does without the pool.
    assert user.exec("first", "hostname")["stdout"] == "first\n"
    assert user.create("next")["start"] == "template"
    server.stop()
    assert server.log.read_text().count("VM kept ready") == SIZE, "none was added"
    assert len(server.vmm_processes()) == 2 and kept(server) == set()


@NEEDS_A_SHORTAGE
def test_the_pool_stays_when_somebody_waits_at_a_limit_of_his_own(pooled):
    server, user = pooled
    places = kept(server)
    with waiting_for_memory(server.data_dir):
        wait_until_felt(3)
    assert kept(server) == places
    assert user.create("next")["start"] == "pool"


@pytest.fixture
def two_slots():
    world = World(ready=1, pool="172.30.0.0/29")
    world.start()
    world.echo(world.internet, PORT)
    yield world
    world.close()


@NEEDS_A_NETWORK
def test_a_pool_in_real_slots_gives_them_to_creates(two_slots, server_factory):
    server = server_factory(paths={"netd_socket": str(two_slots.socket_path)},
                            pool={"size": 1, "memory": SIZE * GUEST_MEMORY}).start()
    user = server.make_user()
    assert user.create("first")["start"] == "boot"
    wait_for(server, "VM kept ready", 1)
    assert len(two_slots.ask("stats")["vms"]) == 2

    # What is taken out of it has the slot that it stood in, and more than nothing is let through now.
    assert user.create("second")["start"] == "pool"
    assert address_of(user, "second") != address_of(user, "first")
    assert peer_seen_by(user, "second", INTERNET) == HOST
    wait_for(server, "no VM is kept ready", 1)
    user.destroy("second")

    # A VM that boots needs the slot in which another stands ready.
    server.stop()
    server.start()
    wait_for(server, "VM kept ready", 2)
    assert user.create("third", boot=True)["start"] == "boot"
    assert kept(server) == set()
    assert peer_seen_by(user, "third", INTERNET) == HOST
    refused = user.post("/v1/vms", json={"name": "fourth", "mem_mib": GUEST_MEMORY})
    assert refused.status_code == 403 and "all 2 network slots are in use" in refused.json()["error"], refused.text
