"""noid-netd and guests that sleep: who is told, what is held, and what wakes nobody."""
import concurrent.futures
import json
import os
import pwd
import socket

import pytest

from netd_world import HOST, INTERNET, Guest, Refused, read_line
from test_netd import ask_as, make_world, world  # noqa: F401

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

SERVER = {"server": "blue", "run": "1"}



class Watch:
    """A server's watch over its sleeping VMs."""

    def __init__(self, world, asleep=(), **holder):
        self.connection = world.connect()
        self.connection.sendall(
            json.dumps({"op": "watch", "asleep": list(asleep), **(holder or SERVER)}).encode() + b"\n")
        self.lines = self.connection.makefile()
        self.answer = json.loads(self.lines.readline())

    def next(self):
        """The VM that somebody sends to; None when the watch has ended."""
        line = self.lines.readline()
        return json.loads(line)["knock"] if line else None

    def close(self):
        self.lines.close()
        self.connection.close()


def sleeping(world, vm):
    """A guest that has gone to sleep: its machine is gone from the slot."""
    guest = world.guest(vm, **SERVER)
    guest.unplug()
    world.ask("sleep", vm=vm)
    return guest.slot


def connect(world, slot, port=7):
    connection = world.host.socket()
    connection.settimeout(30)
    connection.connect((slot["guest_ip"], port))
    return connection


def test_a_connection_is_held_until_the_guest_is_there(world):
    watch = Watch(world)
    slot = sleeping(world, "sleeper")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        connecting = pool.submit(connect, world, slot)
        assert watch.next() == "sleeper"
        assert not connecting.done()
        woken = Guest(slot)
        world.guests.append(woken)
        world.echo(woken, 7)
        world.ask("awake", vm="sleeper")
        with connecting.result(30) as connection:
            assert read_line(connection) == slot["host_ip"]
    with connect(world, slot) as connection:
        assert read_line(connection) == slot["host_ip"]


def test_what_is_not_meant_for_it_wakes_nobody(world):
    watch = Watch(world)
    guest = world.guest("talker", **SERVER)
    neighbour = world.guest("neighbour", **SERVER)
    with world.internet.listen(80) as listener:
        begun = guest.connect(INTERNET, 80)
        far_end, _ = listener.accept()
    guest.unplug()
    world.ask("sleep", vm="talker")
    other = sleeping(world, "other")
    slot = guest.slot

    assert not neighbour.can_connect(slot["guest_ip"], 7), "another guest"
    with world.internet.socket() as connection:
        world.internet.ip("route", "replace", "172.16.0.0/16", "via", HOST)
        connection.settimeout(0.7)
        with pytest.raises(OSError):
            connection.connect((slot["guest_ip"], 7))
    with world.host.socket(socket.SOCK_DGRAM) as everybody:
        everybody.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        device = f"noid{slot['index']}".encode()
        everybody.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
        for address in ("255.255.255.255", "224.0.0.1", broadcast_of(slot)):
            everybody.sendto(b"anybody there?", (address, 7))
    far_end.sendall(b"an answer to what it had asked")
    far_end.close()
    begun.close()
    world.ask("policy", vm="talker", policy={"mode": "none"})
    with pytest.raises(OSError):
        connect(world, slot)

    # All of that was before this one, and each is told of in its turn.
    with world.host.socket(socket.SOCK_DGRAM) as honest:
        honest.sendto(b"wake up", (other["guest_ip"], 7))
    assert watch.next() == "other"


def broadcast_of(slot):
    octets = slot["host_ip"].split(".")
    return ".".join(octets[:3] + [str(int(octets[3]) + 2)])


def test_it_sleeps_on_when_the_daemon_is_killed(world):
    slot = sleeping(world, "sleeper")
    world.restart()
    assert world.ask("stats", vm="sleeper")["vms"][0]["asleep"]
    with world.host.socket(socket.SOCK_DGRAM) as early:
        early.sendto(b"before anybody watches", (slot["guest_ip"], 7))
    watch = Watch(world)
    assert watch.next() == "sleeper"


def test_a_watch_says_who_sleeps_and_hears_who_is_lost(world):
    for vm in ("one", "two"):
        world.ask("acquire", vm=vm, **SERVER)
    watch = Watch(world, asleep=["one", "gone"])
    assert watch.answer == {"ok": True, "lost": ["gone"]}
    assert {s["vm"]: s["asleep"] for s in world.ask("stats")["vms"]} == {"one": True, "two": False}
    assert world.ask("acquire", vm="one", **SERVER)["ok"]
    assert world.ask("stats", vm="one")["vms"][0]["asleep"], "its server says when it is awake"
    newer = Watch(world)
    assert watch.next() is None, "there is one watch for a server"
    for op in ("sleep", "awake"):
        with pytest.raises(Refused) as refused:
            world.ask(op, vm="gone")
        assert refused.value.answer["code"] == "not_found"
    world.stop()
    assert newer.next() is None


def test_each_server_hears_of_its_own(make_world):
    games = pwd.getpwnam("games")
    world = make_world(group="games").start()
    stranger = Watch(world, server="green")
    world.ask("acquire", vm="roots", **SERVER)
    theirs = json.loads(ask_as(world, games.pw_uid, games.pw_gid,
                               '{"op":"acquire","vm":"theirs","server":"blue","run":"1"}'))
    for op in ("sleep", "awake"):
        line = json.dumps({"op": op, "vm": "roots"})
        assert json.loads(ask_as(world, games.pw_uid, games.pw_gid, line))["code"] == "not_found"
    world.ask("sleep", vm="roots")
    world.ask("sleep", vm="theirs")  # root may
    watch = Watch(world)
    with world.host.socket(socket.SOCK_DGRAM) as sender:
        sender.sendto(b"wake up", (theirs["guest_ip"], 7))
        sender.sendto(b"wake up", (world.ask("acquire", vm="roots", **SERVER)["guest_ip"], 7))
    assert watch.next() == "roots", "and never of theirs"
    stranger.connection.setblocking(False)
    with pytest.raises(BlockingIOError):
        stranger.connection.recv(1)


def test_watches_are_bounded_and_take_nobodys_place(world):
    watches = [Watch(world, server=f"server{i}") for i in range(16)]
    refused = Watch(world, server="one too many")
    assert refused.answer["code"] == "limit_exceeded"
    assert Watch(world, server="server3").answer["ok"], "in the place of its older one"
    assert watches[3].next() is None
    for watch in watches:
        watch.close()
    world.wait_until(lambda: Watch(world, server="one too many").answer["ok"])
    with world.connect() as bad:
        bad.sendall(b'{"op":"watch","asleep":[]}\n')
        assert b"'server'" in bad.recv(1000)


def test_suspended_vms_count_as_long_as_they_have_slots(make_world):
    world = make_world(pool="172.20.0.0/29", ready=2).start()
    world.ask("acquire", vm="awake", **SERVER)
    world.ask("acquire", vm="asleep", **SERVER)
    world.ask("sleep", vm="asleep")
    with pytest.raises(Refused) as refused:
        world.ask("acquire", vm="third")
    assert refused.value.answer["error"] == "all 2 network slots are in use, 1 of them by suspended VMs"
    assert "2 of 2 in use (1 by suspended VMs)" in world.command("doctor").stdout
    assert world.ask("release", vm="asleep")["released"]
    assert world.ask("acquire", vm="third")["ok"]
