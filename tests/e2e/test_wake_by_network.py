"""Suspended microVMs, and whoever sends to their addresses."""
import signal

import pytest

from netd_world import HOST, INTERNET
from networked_vms import (NAME_PORT, NEEDS_A_NETWORK, PORT, address_of, api, bash, networked_server,  # noqa: F401
                           peer_seen_by, reachable_from_host, say_name, set_network, state_of, world)

pytestmark = NEEDS_A_NETWORK


@pytest.fixture
def sleeper(api):
    """Name and address of a suspended VM with a service."""
    api.create("sleeper")
    say_name(api, "sleeper")
    return suspended(api, "sleeper")


def suspended(api, vm):
    address = address_of(api, vm)
    answer = api.post(f"/v1/vms/{vm}/suspend")
    assert answer.status_code == 200, answer.text
    assert state_of(api, vm) == "suspended"
    assert address_of(api, vm) == address, "it keeps its address"
    return vm, address


def test_the_first_connection_to_its_address_is_answered(world, api, sleeper):
    vm, address = sleeper
    assert [s["asleep"] for s in world.ask("stats")["vms"] if s["guest_ip"] == address] == [True]
    assert reachable_from_host(world, address, NAME_PORT) == vm
    assert state_of(api, vm) == "running" and address_of(api, vm) == address
    assert [s["asleep"] for s in world.ask("stats")["vms"] if s["guest_ip"] == address] == [False]
    assert peer_seen_by(api, vm, INTERNET) == HOST
    suspended(api, vm)
    assert reachable_from_host(world, address, NAME_PORT) == vm, "and so every time"


def test_whoever_was_restarted_while_it_slept(world, networked_server, api, sleeper):
    vm, address = sleeper
    networked_server.stop(signal.SIGKILL)
    networked_server.start()
    assert state_of(api, vm) == "suspended" and address_of(api, vm) == address
    assert reachable_from_host(world, address, NAME_PORT) == vm

    suspended(api, vm)
    world.restart()
    assert reachable_from_host(world, address, NAME_PORT) == vm

    suspended(api, vm)
    networked_server.stop(signal.SIGKILL)
    world.stop(signal.SIGKILL)
    networked_server.start()  # and finds no daemon
    world.start()
    assert reachable_from_host(world, address, NAME_PORT) == vm
    assert state_of(api, vm) == "running"


def test_it_was_suspended_while_no_daemon_answered(world, api):
    api.create("alone")
    say_name(api, "alone")
    world.stop(signal.SIGKILL)
    vm, address = suspended(api, "alone")
    world.start()
    assert reachable_from_host(world, address, NAME_PORT) == vm


def test_its_policy_holds_while_it_sleeps(world, api, sleeper):
    vm, address = sleeper
    set_network(api, vm, mode="none")
    with pytest.raises(OSError):
        reachable_from_host(world, address, NAME_PORT)
    assert state_of(api, vm) == "suspended", "what may not reach it does not wake it"
    set_network(api, vm, mode="egress")
    assert reachable_from_host(world, address, NAME_PORT) == vm
    assert peer_seen_by(api, vm, INTERNET, PORT) is None


def test_back_to_a_checkpoint_at_the_same_address(world, api):
    api.create("undone")
    say_name(api, "undone")
    saved = api.post("/v1/vms/undone/checkpoints", json={"name": "then"})
    assert saved.status_code == 201, saved.text
    vm, address = suspended(api, "undone")
    restored = api.post("/v1/vms/undone/restore", json={"checkpoint_id": "then"})
    assert restored.status_code == 200, restored.text
    assert address_of(api, vm) == address
    assert reachable_from_host(world, address, NAME_PORT) == vm


def test_a_destroyed_sleeper_gives_its_slot_back(world, api, sleeper):
    vm, address = sleeper
    api.destroy(vm)
    assert address not in {s["guest_ip"] for s in world.ask("stats")["vms"]}


def test_an_exec_wakes_it_too_and_its_slot(world, api, sleeper):
    vm, address = sleeper
    assert bash(api, vm, "echo awake")["stdout"] == "awake\n"
    assert [s["asleep"] for s in world.ask("stats")["vms"] if s["guest_ip"] == address] == [False]
    assert reachable_from_host(world, address, NAME_PORT) == vm
