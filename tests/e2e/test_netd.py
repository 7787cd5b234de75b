"""noid-netd with real packets: see netd_world for the internet that it is put into."""
import concurrent.futures
import contextlib
import json
import os
import pwd
import re
import socket
import struct
import subprocess
import sys
import threading
import time

import pytest

from conftest import ROOT
from netd_world import (ELSEWHERE, GATEWAY, GUEST_ADDRESS, GUEST_MAC, HOST, INTERNET, METADATA, RESOLVER, Namespace,
                        Refused, World, attach_tap, checksum, dns_name, read_exactly, read_line)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


@pytest.fixture
def make_world():
    with contextlib.ExitStack() as worlds:

        def make(**settings):
            world = World(**settings)
            worlds.callback(world.close)
            return world

        yield make


@pytest.fixture
def world(make_world):
    return make_world().start()


@pytest.fixture(scope="module")
def shared_world():
    """For tests that leave nothing behind but guests of their own."""
    world = World().start()
    for port in (80, 443, 8080):
        world.echo(world.internet, port)
    world.echo(world.host, 22)
    yield world
    world.close()


@pytest.fixture
def guest(shared_world):
    guest = shared_world.guest()
    yield guest
    guest.unplug()
    shared_world.ask("release", vm=guest.vm)


# --- the operations that older clients know ----------------------------------------------------------


def test_old_clients_are_answered_as_ever(world):
    assert world.say('{"op":"setup","index":300}') == (
        '{"ok":true,"tap_name":"noid300","host_ip":"172.16.4.177","guest_ip":"172.16.4.178",'
        '"guest_mac":"AA:FC:00:00:01:2C"}\n')
    assert world.say('{"op":"status"}') == '{"ok":true,"active":["noid300"]}\n'
    assert json.loads(world.say('{"op":"setup","index":300}'))["ok"], "idle: made again"
    with world.host.entered():
        tap = attach_tap("noid300")
    assert world.say('{"op":"setup","index":300}') == (
        '{"ok":false,"error":"failed to create TAP noid300: TUNSETIFF failed for noid300: '
        'Device or resource busy (os error 16)"}\n')
    assert world.say('{"op":"teardown","tap_name":"noid300"}') == '{"ok":true}\n'
    assert world.ask("status")["active"] == ["noid300"], "a busy TAP stays"
    os.close(tap)
    assert world.say('{"op":"teardown","tap_name":"noid300"}') == '{"ok":true}\n'
    assert world.say('{"op":"teardown","tap_name":"noid300"}') == '{"ok":true}\n'
    assert world.say('{"op":"status"}') == '{"ok":true,"active":[]}\n'


def test_a_bare_tap_reaches_the_internet(world):
    world.echo(world.internet, 80)
    given = world.ask("setup", index=9)
    slot = {"netns": world.host.path, "tap": given["tap_name"],
            "guest": {"address": given["guest_ip"] + "/30", "gateway": given["host_ip"], "mtu": 1500}}
    world.ask("acquire", vm="other")
    from netd_world import Guest
    guest = Guest(slot)
    try:
        assert read_line(guest.connect(INTERNET, 80)) == HOST
        assert not guest.can_connect(HOST, 22)
    finally:
        guest.unplug()


@pytest.mark.parametrize("line, expected", [
    ('{"op":"setup"}', "setup requires 'index' field"),
    ('{"op":"setup","index":16384}', "index 16384 is out of range (0 to 16383)"),
    ('{"op":"setup","index":"1"}', "invalid request: "),
    ('{"op":"teardown"}', "teardown requires 'tap_name' field"),
    ('{"op":"teardown","tap_name":"wan0"}', "invalid tap_name 'wan0': must start with 'noid'"),
    ('{"op":"dance"}', "unknown op: dance"),
    ("hello", "invalid request: "),
    ("", "invalid request: "),
    ('{"op":"acquire","vm":"../etc passwd"}', "invalid request: "),
    ('{"op":"acquire","vm":"a","policy":{"mode":"opne"}}', "invalid request: policy: "),
    ('{"op":"policy","vm":"nobody"}', "VM 'nobody' has no network slot"),
    pytest.param("[" * 100_000, "invalid request: ", id="nested"),
])
def test_what_is_no_good_request_is_refused_in_words(shared_world, line, expected):
    answer = json.loads(shared_world.say(line) or "{}")
    if line == "" and not answer:
        return  # nothing was asked
    assert answer["ok"] is False
    assert answer["error"].startswith(expected)


def test_devices_of_others_are_left_alone(world):
    world.host.ip("link", "add", "noid5", "type", "veth", "peer", "name", "noidfoo")
    for index_or_name in ("noid5", "noidfoo"):
        with contextlib.suppress(Refused):
            world.ask("teardown", tap_name=index_or_name)
    with pytest.raises(Refused):
        world.ask("setup", index=5)
    slots = [world.ask("acquire", vm=f"v{i}")["index"] for i in range(8)]
    assert 5 not in slots
    world.restart()
    world.stop()
    world.command("cleanup")
    links = world.host.ip("-br", "link")
    assert "noid5" in links and "noidfoo" in links


# --- what a guest reaches ----------------------------------------------------------------------------


def test_a_guest_reaches_the_internet(shared_world, guest):
    for address in (INTERNET, ELSEWHERE):
        with guest.connect(address, 80) as connection:
            assert read_line(connection) == HOST, "seen under the host's address"
            connection.sendall(b"x" * 10_000)
            assert read_exactly(connection, 10_000) == b"x" * 10_000
    assert guest.can_ping(INTERNET)
    assert guest.can_ping(GATEWAY)
    stats = shared_world.stats(guest)
    assert stats["sent"]["bytes"] > 20_000 and stats["received"]["bytes"] > 20_000
    assert stats["connections"] > 0
    assert stats["forged"]["packets"] == stats["isolated"]["packets"] == stats["denied"]["packets"] == 0


def test_a_guest_does_not_reach_the_host(shared_world, guest):
    shared_world.echo(Namespace(path=guest.slot["netns"]), 8080)
    before = shared_world.stats(guest)["isolated"]["packets"]
    for address in (HOST, guest.slot["host_ip"], guest.slot["guest_ip"], "127.0.0.1"):
        assert not guest.can_connect(address, 22), address
    assert not guest.can_connect(GATEWAY, 8080)
    assert not guest.can_ping(guest.slot["host_ip"])
    assert shared_world.stats(guest)["isolated"]["packets"] > before


def test_a_guest_does_not_reach_metadata_services(shared_world, guest):
    assert shared_world.host.run("ip", "route", "get", METADATA).find("wan0") > 0
    for address in (METADATA, "100.100.100.200", "168.63.129.16"):
        assert not guest.can_connect(address, 80), address


def test_guests_do_not_reach_each_other(shared_world, guest):
    other = shared_world.guest()
    try:
        shared_world.echo(other, 7)
        assert not guest.can_connect(other.slot["guest_ip"], 7)
        assert not guest.can_ping(other.slot["guest_ip"])
        # Nor with the route to its slot spelt out, past the gateway.
        guest.ip("route", "add", other.slot["guest_ip"], "via", GATEWAY)
        assert not guest.can_connect(other.slot["guest_ip"], 7)
    finally:
        other.unplug()
        shared_world.ask("release", vm=other.vm)


def test_the_host_reaches_a_guest_by_its_outer_address(shared_world, guest):
    shared_world.echo(guest, 7)
    with shared_world.host.socket() as connection:
        connection.connect((guest.slot["guest_ip"], 7))
        assert read_line(connection) == guest.slot["host_ip"]


def test_the_internet_does_not_reach_a_guest(shared_world, guest):
    shared_world.echo(guest, 7)
    shared_world.internet.ip("route", "replace", "172.16.0.0/16", "via", HOST)
    with shared_world.internet.socket() as connection:
        connection.settimeout(0.7)
        with pytest.raises(OSError):
            connection.connect((guest.slot["guest_ip"], 7))


def ethernet(payload, kind=0x0800, source=GUEST_MAC, destination="aa:fc:00:00:00:01"):
    def mac(text):
        return bytes.fromhex(text.replace(":", ""))

    return mac(destination) + mac(source) + struct.pack(">H", kind) + payload


def udp(source, destination, port, data):
    datagram = struct.pack(">4H", 1000, port, 8 + len(data), 0) + data
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(datagram), 1, 0, 64, 17, 0, socket.inet_aton(source),
                       socket.inet_aton(destination))
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + datagram


def test_forged_sources_get_nowhere(shared_world, guest):
    sink = shared_world.internet.socket(socket.SOCK_DGRAM)
    sink.bind((INTERNET, 9))
    before = shared_world.stats(guest)["forged"]["packets"]
    forged = [
        ethernet(udp("10.200.0.1", INTERNET, 9, b"gateway")),
        ethernet(udp("10.200.0.3", INTERNET, 9, b"neighbour")),
        ethernet(udp("172.16.0.6", INTERNET, 9, b"other slot")),
        ethernet(udp("198.51.100.9", INTERNET, 9, b"internet")),
        ethernet(udp(GUEST_ADDRESS, INTERNET, 9, b"other mac"), source="aa:fc:00:00:00:03"),
        ethernet(udp(GUEST_ADDRESS, INTERNET, 9, b"vlan"), kind=0x8100),
        ethernet(bytes(40), kind=0x86DD),
        # "I am the gateway."
        ethernet(struct.pack(">HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 2, bytes.fromhex(GUEST_MAC.replace(":", "")),
                             socket.inet_aton(GATEWAY), bytes(6), socket.inet_aton(GUEST_ADDRESS)), kind=0x0806),
    ]
    for frame in forged:
        guest.send_frame(frame)
    guest.send_frame(ethernet(udp(GUEST_ADDRESS, INTERNET, 9, b"honest")))
    assert sink.recv(100) == b"honest"
    sink.setblocking(False)
    with pytest.raises(BlockingIOError):
        sink.recv(100)
    assert shared_world.stats(guest)["forged"]["packets"] == before + len(forged)


def test_there_is_no_ipv6(shared_world, guest):
    inside = Namespace(path=guest.slot["netns"])
    for namespace, device in ((inside, "tap0"), (inside, "uplink"),
                              (shared_world.host, f"noid{guest.slot['index']}")):
        assert namespace.ip("-6", "address", "show", "dev", device) == ""
    for which in ("all", "eth0"):
        guest.sysctl(f"ipv6.conf.{which}.disable_ipv6", 0)
    shared_world.internet.ip("address", "replace", "2001:db8::1/64", "dev", "net0", "nodad")
    guest.ip("address", "add", "2001:db8:1::2/64", "dev", "eth0", "nodad")
    guest.ip("route", "add", "default", "via", "2001:db8:1::1")
    before = shared_world.stats(guest)["forged"]["packets"]
    with guest.socket(family=socket.AF_INET6) as connection:
        connection.settimeout(0.7)
        with pytest.raises(OSError):
            connection.connect(("2001:db8::1", 80))
    assert shared_world.stats(guest)["forged"]["packets"] > before


def test_the_mtu_of_the_uplink_is_the_guests(make_world):
    world = make_world()
    for namespace, device in ((world.host, "wan0"), (world.internet, "net0")):
        namespace.ip("link", "set", device, "mtu", "1400")
    world.start()
    world.echo(world.internet, 80)
    guest = world.guest()
    assert guest.slot["guest"]["mtu"] == 1400
    with guest.connect(INTERNET, 80) as connection:
        read_line(connection)
        sender = threading.Thread(target=connection.sendall, args=(b"x" * 200_000,))
        sender.start()
        read_exactly(connection, 200_000)
        sender.join()


# --- names -------------------------------------------------------------------------------------------


def test_names_are_resolved_by_the_gateway(world):
    world.name_server().records["www.example.test"] = [ELSEWHERE, INTERNET]
    guest = world.guest()
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        assert guest.resolve("www.example.test", kind=kind) == [ELSEWHERE, INTERNET]
        assert guest.resolve("WWW.Example.Test", kind=kind) == [ELSEWHERE, INTERNET]
        assert guest.resolve("absent.test", kind=kind) == 3
    assert guest.resolve("www.example.test", server=RESOLVER), "an open guest may ask whom it likes"


def test_a_dead_resolver_is_an_answer_too(world):
    guest = world.guest()
    with guest.socket(socket.SOCK_DGRAM) as asking:
        asking.settimeout(20)
        asking.connect((GATEWAY, 53))
        asking.send(struct.pack(">6H", 1, 0x0100, 1, 0, 0, 0) + dns_name("a.test") + struct.pack(">2H", 1, 1))
        assert asking.recv(4096)[3] & 15 == 2


# --- policies ----------------------------------------------------------------------------------------


def test_mode_none_closes_everything(shared_world):
    guest = shared_world.guest(policy={"mode": "none"})
    assert not guest.can_connect(INTERNET, 80)
    assert not guest.can_ping(INTERNET)
    assert guest.resolve("www.example.test") == 5
    assert shared_world.stats(guest)["denied"]["packets"] > 0


def test_rules_by_network_and_port(shared_world, guest):
    shared_world.set_policy(guest, mode="egress", rules=[
        {"action": "deny", "to": ELSEWHERE},
        {"action": "allow", "to": "198.51.100.0/24", "protocol": "tcp", "ports": ["80", "8000-8100"]},
        {"action": "allow", "to": "203.0.113.0/24"},
    ])
    assert guest.can_connect(INTERNET, 80)
    assert guest.can_connect(INTERNET, 8080)
    assert not guest.can_connect(INTERNET, 443)
    assert not guest.can_ping(INTERNET)
    assert not guest.can_connect(ELSEWHERE, 80)
    shared_world.set_policy(guest, mode="open", rules=[{"action": "deny", "to": INTERNET, "ports": ["443"]}])
    assert guest.can_connect(ELSEWHERE, 443)
    assert not guest.can_connect(INTERNET, 443)
    assert guest.can_ping(INTERNET)
    # Isolation is not a matter of policy.
    shared_world.set_policy(guest, rules=[{"action": "allow", "to": "0.0.0.0/0"}])
    assert not guest.can_connect(METADATA, 80)
    assert not guest.can_connect(HOST, 22)


def test_a_refusal_is_heard_at_once(shared_world, guest):
    shared_world.set_policy(guest, mode="egress")
    begun = time.monotonic()
    assert not guest.can_connect(INTERNET, 80, timeout=10)
    assert time.monotonic() - begun < 5


def test_a_new_policy_cuts_what_it_denies(shared_world, guest):
    with guest.connect(INTERNET, 80) as kept, guest.connect(INTERNET, 443) as cut:
        assert read_line(kept) and read_line(cut)
        shared_world.set_policy(guest, mode="egress", rules=[{"action": "allow", "ports": ["80"]}])
        kept.sendall(b"still there")
        assert kept.recv(100) == b"still there"
        cut.sendall(b"hello?")
        cut.settimeout(2)
        with pytest.raises(OSError):
            if cut.recv(100) == b"":
                raise ConnectionResetError
    shared_world.set_policy(guest)
    assert guest.can_connect(INTERNET, 443)


def test_rules_by_name(world):
    world.echo(world.internet, 80)
    names = world.name_server().records
    names.update({"www.example.test": [ELSEWHERE], "example.test": [INTERNET], "evil.test": [INTERNET]})
    guest = world.guest(policy={"mode": "egress", "rules": [{"action": "allow", "to": "*.example.test"}]})
    assert not guest.can_connect(ELSEWHERE, 80), "nobody has resolved it yet"
    assert guest.resolve("www.example.test") == [ELSEWHERE]
    assert guest.can_connect(ELSEWHERE, 80)
    assert guest.resolve("example.test") == guest.resolve("evil.test") == 5
    assert not guest.can_connect(INTERNET, 80)
    # Another resolver's answers would make names mean anything: they come from netd all the same.
    assert guest.resolve("evil.test", server=INTERNET) == 5
    # The name's addresses are known from before, whatever the policy was then.
    world.set_policy(guest, mode="open", rules=[{"action": "deny", "to": "www.example.test"}])
    assert not guest.can_connect(ELSEWHERE, 80)
    assert guest.can_connect(INTERNET, 80)
    # And another guest has asked for nothing.
    other = world.guest(policy={"mode": "egress", "rules": [{"action": "allow", "to": "*.example.test"}]})
    assert not other.can_connect(ELSEWHERE, 80)


def test_names_survive_a_restart(world):
    world.echo(world.internet, 80)
    world.name_server().records["www.example.test"] = [ELSEWHERE]
    guest = world.guest(policy={"mode": "egress", "rules": [{"action": "allow", "to": "*.example.test"}]})
    assert guest.resolve("www.example.test") == [ELSEWHERE]
    world.restart()
    assert guest.can_connect(ELSEWHERE, 80)
    # What netd has taken over it also carries into a new policy.
    world.set_policy(guest, mode="egress", rules=[{"action": "deny", "to": INTERNET},
                                                  {"action": "allow", "to": "*.example.test"}])
    assert guest.can_connect(ELSEWHERE, 80)


def test_rates_are_held(shared_world, guest):
    rate = 200_000
    amount = 600_000

    def seconds_to_echo():
        with guest.connect(INTERNET, 80) as connection:
            connection.settimeout(60)
            read_line(connection)
            begun = time.monotonic()
            sender = threading.Thread(target=connection.sendall, args=(b"x" * amount,))
            sender.start()
            read_exactly(connection, amount)
            sender.join()
            return time.monotonic() - begun

    free = seconds_to_echo()
    # What fits into the bucket at once costs nothing.
    least = (amount - 128 * 1024 - rate / 5) / rate
    shared_world.set_policy(guest, upload=rate)
    assert seconds_to_echo() >= least > free
    shared_world.set_policy(guest, download=rate)
    assert seconds_to_echo() >= least
    shared_world.set_policy(guest)
    assert seconds_to_echo() < least


# --- life of slots -----------------------------------------------------------------------------------


def test_asking_twice_gives_the_same_slot(shared_world, guest):
    again = shared_world.ask("acquire", vm=guest.vm)
    assert again == guest.slot
    with guest.connect(INTERNET, 80) as connection:
        assert read_line(connection) == HOST


def test_a_slot_is_as_new_for_its_next_guest(make_world):
    world = make_world(ready=0).start()
    world.echo(world.internet, 80)
    first = world.guest(policy={"mode": "open", "upload": 50_000})
    first.connect(INTERNET, 80)
    index = first.slot["index"]
    world.set_policy(first, mode="egress")
    first.unplug()
    assert world.ask("release", vm=first.vm)["released"]
    assert not world.ask("release", vm=first.vm)["released"]
    second = world.guest()
    assert second.slot["index"] == index
    stats = world.stats(second)
    assert stats["sent"]["packets"] == stats["connections"] == stats["denied"]["packets"] == 0
    assert second.can_connect(INTERNET, 80)
    assert "tbf" not in Namespace(path=second.slot["netns"]).run("tc", "qdisc")


def test_a_slot_whose_machine_lives_on_is_not_handed_out(make_world):
    world = make_world(ready=0).start()
    world.echo(world.internet, 80)
    stale = world.guest()
    world.ask("release", vm=stale.vm)  # its TAP is still open
    world.wait_until(lambda: stale.slot["netns"].rsplit("/")[-1] not in world.slots())
    fresh = world.guest()
    assert fresh.can_connect(INTERNET, 80)
    assert not stale.can_connect(INTERNET, 80)


def test_slots_are_unique_however_they_are_asked_for(world):
    names = [f"vm{i}" for i in range(40)]
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        slots = list(pool.map(lambda name: world.ask("acquire", vm=name), names + names))
    assert len({s["index"] for s in slots}) == len(names)
    assert [s["index"] for s in slots[:40]] == [s["index"] for s in slots[40:]]
    assert world.ask("status")["active"] == sorted(f"noid{s['index']}" for s in slots[:40])


def test_no_slot_left_is_a_clear_error(make_world):
    world = make_world(pool="172.20.0.0/28", ready=8).start()
    slots = [world.ask("acquire", vm=f"vm{i}") for i in range(4)]
    assert {s["guest_ip"] for s in slots} == {"172.20.0.2", "172.20.0.6", "172.20.0.10", "172.20.0.14"}
    with pytest.raises(Refused) as refused:
        world.ask("acquire", vm="one-too-many")
    assert refused.value.answer == {"ok": False, "error": "all 4 network slots are in use", "code": "limit_exceeded"}
    world.ask("release", vm="vm2")
    assert world.ask("acquire", vm="one-too-many")["index"] == slots[2]["index"]
    assert "4 of 4 in use (0 by suspended VMs)" in world.command("doctor").stdout


def test_a_killed_daemon_takes_everything_over(world):
    world.echo(world.internet, 80)
    guest = world.guest(policy={"mode": "egress", "rules": [{"action": "allow", "ports": ["80"]}], "upload": 10**6})
    with guest.connect(INTERNET, 80) as connection:
        read_line(connection)
        before = world.ask("status"), world.ask("policy", vm=guest.vm), world.ask("acquire", vm="idle")
        world.stop(9)
        connection.sendall(b"while netd is dead")
        assert connection.recv(100) == b"while netd is dead"
        world.start()
        assert world.ask("policy", vm=guest.vm) == before[1]
        assert world.ask("acquire", vm="idle") == before[2]
        connection.sendall(b"and after")
        assert connection.recv(100) == b"and after"
    assert not guest.can_connect(INTERNET, 443)
    assert set(world.ask("status")["active"]) == {f"noid{guest.slot['index']}", f"noid{before[2]['index']}"}
    stats = world.stats(guest)
    assert stats["sent"]["packets"] > 0


def test_leaked_slots_are_freed(world):
    slots = {vm: world.ask("acquire", vm=vm)["index"] for vm in ("kept", "leaked", "also-leaked")}
    world.restart()
    assert sorted(world.ask("retain", vms=["kept", "unheard-of"])["released"]) == ["also-leaked", "leaked"]
    assert world.ask("status")["active"] == [f"noid{slots['kept']}"]
    # They are ready again, and no others are needed.
    world.wait_until(lambda: "3 ready" in world.command("doctor").stdout or "2 ready" in world.command("doctor").stdout)


def test_a_server_frees_only_what_it_leaked_itself(world):
    for server, run, vm in (("blue", "1", "blue-kept"), ("blue", "1", "blue-leaked"), ("blue", "2", "blue-new"),
                            ("green", "1", "green-1"), ("", "", "nobodys")):
        world.ask("acquire", vm=vm, **({"server": server, "run": run} if server else {}))
    # Who takes a slot anew holds it.
    world.ask("acquire", vm="blue-kept", server="blue", run="2")
    world.restart()
    assert world.ask("retain", server="blue", run="2", vms=[])["released"] == ["blue-leaked"]
    assert world.ask("retain", server="green", run="2", vms=["green-1"])["released"] == []
    assert world.ask("retain", vms=[])["released"] == ["nobodys"]
    assert sorted(s["vm"] for s in world.ask("stats")["vms"]) == ["blue-kept", "blue-new", "green-1"]


def test_connections_are_those_that_are_open(world):
    world.echo(world.internet, 80)
    guest = world.guest()
    assert world.stats(guest)["connections"] == 0
    with guest.connect(INTERNET, 80) as one, guest.connect(ELSEWHERE, 80) as other:
        assert read_line(one) and read_line(other)
        assert world.stats(guest)["connections"] == 2
    world.wait_until(lambda: world.stats(guest)["connections"] == 0)


def test_what_was_half_made_is_found(world):
    slot = world.ask("acquire", vm="damaged")
    world.ask("acquire", vm="whole")
    world.stop(9)
    world.host.ip("link", "delete", f"noid{slot['index']}")
    (world.directory / "netns" / "noid99").touch()
    (world.directory / "state" / "leases" / "noid77.json").write_text("{")
    world.start()
    for words in ("damaged", "noid77.json"):
        world.wait_until(lambda words=words: words in world.log.read_text())
    assert "noid99" not in world.slots()
    assert world.ask("stats")["vms"][0]["vm"] == "whole"
    assert world.ask("acquire", vm="damaged")["ok"]


def test_it_stops_in_the_middle_of_making_slots(make_world):
    world = make_world(ready=30).start()
    for _ in range(3):
        world.ask("acquire", vm="first")
        world.stop()
        world.start()


def test_two_daemons_do_not_fight(world):
    done = world.command("run", check=False)
    assert done.returncode == 1
    assert "another noid-netd runs on this host" in done.stderr
    done = world.command("cleanup", check=False)
    assert done.returncode == 1
    assert "another noid-netd runs on this host" in done.stderr
    assert world.ask("status")["ok"]


# --- the host ----------------------------------------------------------------------------------------


def test_cleanup_leaves_the_host_as_it_was(make_world):
    world = make_world()
    # As ufw, Docker and an administrator have it.
    world.host.run("iptables", "-P", "INPUT", "DROP")
    world.host.run("iptables", "-N", "ufw-before-forward")
    world.host.run("iptables", "-A", "FORWARD", "-j", "ufw-before-forward")
    world.host.run("iptables", "-A", "ufw-before-forward", "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED",
                   "-j", "ACCEPT")
    world.host.run("iptables", "-P", "FORWARD", "DROP")
    world.host.run("iptables", "-N", "DOCKER-USER")
    world.host.run("iptables", "-A", "FORWARD", "-j", "DOCKER-USER")
    world.host.run("iptables", "-A", "DOCKER-USER", "-j", "RETURN")
    world.host.run("iptables", "-A", "FORWARD", "-j", "REJECT")
    world.host.run("iptables", "-t", "nat", "-A", "POSTROUTING", "-s", "172.17.0.0/16", "-j", "MASQUERADE")
    world.host.run("nft", "add table inet firewall { chain input { type filter hook input priority 0; "
                          "iifname lo accept; }; }")
    before = world.rules()
    world.start()
    world.echo(world.internet, 80)
    guest = world.guest()
    assert guest.can_connect(INTERNET, 80), "past the others' rules"
    assert "MASQUERADE" in world.host.run("iptables", "-t", "nat", "-nL")
    world.wait_until(lambda: "2 ready" in world.command("doctor").stdout)
    during = world.rules()
    assert during["ip_forward"] == "1\n" != before["ip_forward"]
    for line in before["iptables"]:
        assert line in during["iptables"], "nothing of others' is touched"
    world.restart()
    assert world.rules()["iptables"] == during["iptables"], "no rule twice"
    world.stop()
    assert world.rules() == during, "rules and slots stay when it stops"
    world.command("cleanup")
    assert world.rules() == before
    assert world.slots() == []
    world.command("cleanup")
    assert world.rules() == before


def test_firewalld_is_named_and_left_alone(make_world):
    world = make_world()
    world.host.run("nft", "add table inet firewalld { chain filter_FORWARD { type filter hook forward priority 10; "
                          "ct state established,related accept; iifname trusted0 accept; reject; }; }")
    world.start()
    world.echo(world.internet, 80)
    guest = world.guest()
    assert not guest.can_connect(INTERNET, 80), "in nftables every chain has to agree"
    advice = world.command("doctor", check=False).stdout
    assert "firewalld is active" in advice and "--add-interface=noid+" in advice
    # What the advice comes to.
    world.host.run("nft", 'insert rule inet firewalld filter_FORWARD iifname "noid*" accept')

    def its_table():
        return [table for table in world.rules()["nft"] if "firewalld" in table]

    told = its_table()
    assert guest.can_connect(INTERNET, 80)
    world.restart()
    world.stop()
    world.command("cleanup")
    assert its_table() == told


def test_cleanup_removes_the_tables_that_nobody_else_uses(make_world):
    world = make_world()
    before = world.rules()
    assert before["nft"] == []
    world.start()
    world.ask("acquire", vm="a")
    world.ask("setup", index=44)
    world.stop(9)
    world.command("cleanup")
    assert world.rules() == before


def test_many_slots_leave_nothing_behind(make_world):
    world = make_world(ready=0)
    before = world.rules()
    world.start()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        names = [f"vm{i}" for i in range(200)]
        assert len({s["index"] for s in pool.map(lambda vm: world.ask("acquire", vm=vm), names)}) == 200
        assert all(a["released"] for a in pool.map(lambda vm: world.ask("release", vm=vm), names))
    world.wait_until(lambda: world.slots() == [], limit=120)
    world.stop()
    world.command("cleanup")
    assert world.rules() == before


def test_another_uplink_is_followed(world):
    world.echo(world.internet, 80)
    guest = world.guest()
    assert guest.can_connect(INTERNET, 80)
    world.internet.ip("link", "add", "net1", "type", "veth", "peer", "name", "wan1", "netns", world.host.name)
    world.internet.ip("address", "add", "192.0.2.1/24", "dev", "net1")
    world.internet.ip("link", "set", "net1", "up")
    world.host.ip("address", "add", "192.0.2.2/24", "dev", "wan1")
    world.host.ip("link", "set", "wan1", "up")
    world.host.ip("route", "replace", "default", "via", "192.0.2.1")
    world.wait_until(lambda: "wan1" in world.host.run("iptables-save", "-t", "nat"))
    assert "wan0" not in world.host.run("iptables-save", "-t", "nat")
    with guest.connect(ELSEWHERE, 80) as connection:
        assert read_line(connection) == "192.0.2.2"
    world.host.ip("route", "delete", "default")
    world.wait_until(lambda: "MASQUERADE" not in world.host.run("iptables-save", "-t", "nat"))
    assert not guest.can_connect(INTERNET, 80)
    world.host.ip("route", "add", "default", "via", INTERNET)
    world.wait_until(lambda: guest.can_connect(INTERNET, 80))


def test_doctor_names_what_is_wrong(world):
    sound = world.command("doctor")
    assert "FAIL" not in sound.stdout
    # The daemon puts its rules back, then lets a program be that removes them again and again.
    world.host.run("iptables", "-t", "nat", "-F")
    world.wait_until(lambda: "they are put back" in world.log.read_text())
    world.host.run("iptables", "-t", "nat", "-F")
    world.host.sysctl("ipv4.ip_forward", 0)
    world.host.ip("route", "add", "172.16.3.0/24", "dev", "wan0")
    ill = world.command("doctor", check=False)
    assert ill.returncode == 1
    for words in ("1 rule(s) missing", "IPv4 forwarding is off", "172.16.0.0/16 overlaps with 172.16.3.0/24 at wan0"):
        assert words in ill.stdout
    world.stop()
    dead = world.command("doctor", check=False)
    assert dead.returncode == 1
    assert "is noid-netd running?" in dead.stdout


def test_status_is_for_people(world):
    slot = world.ask("acquire", vm="blue-whale")
    shown = world.command("status").stdout.splitlines()
    assert shown[0].split()[:3] == ["SLOT", "ADDRESS", "MODE"]
    assert f"noid{slot['index']}" in shown[1] and "blue-whale" in shown[1] and slot["guest_ip"] in shown[1]


# --- who may ask -------------------------------------------------------------------------------------

ASK_AS = """
import os, socket, sys
user, group, path, line = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
os.setgroups([group] if group else [])
os.setgid(user); os.setuid(user)
connection = socket.socket(socket.AF_UNIX)
try:
    connection.connect(path)
except PermissionError:
    print("no way"); sys.exit()
connection.sendall(line.encode() + b"\\n")
print(connection.makefile().read())
"""


def ask_as(world, user, group, line):
    done = subprocess.run([sys.executable, "-c", ASK_AS, str(user), str(group), world.socket_path, line],
                          capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_only_root_and_the_group_may_ask(make_world):
    games = pwd.getpwnam("games")
    group = 60  # games, which is in every Debian
    world = make_world(group="games").start()
    nobody, member, other = 65534, games.pw_uid, 12345
    assert ask_as(world, nobody, 0, '{"op":"status"}') == "no way"
    mine = json.loads(ask_as(world, member, group, '{"op":"acquire","vm":"mine"}'))
    assert mine["ok"]
    # The group's members cannot touch each other's.
    for op in ('{"op":"policy","vm":"mine"}', '{"op":"stats","vm":"mine"}'):
        assert json.loads(ask_as(world, other, group, op))["code"] == "not_found"
    assert json.loads(ask_as(world, other, group, '{"op":"acquire","vm":"mine"}'))["code"] == "conflict"
    assert json.loads(ask_as(world, other, group, '{"op":"release","vm":"mine"}'))["released"] is False
    assert json.loads(ask_as(world, other, group, '{"op":"retain","vms":[]}'))["released"] == []
    assert world.ask("stats")["vms"][0]["vm"] == "mine", "root may see all"
    assert json.loads(ask_as(world, member, group, '{"op":"release","vm":"mine"}'))["released"]


UNIT = (ROOT / "packaging/systemd/noid-netd.service").read_text()
CAPABILITIES = re.search("^CapabilityBoundingSet=(.*)$", UNIT, re.MULTILINE)[1].split()


def bounded_to(capabilities):
    bounds = ",".join(["-all"] + ["+" + c.removeprefix("CAP_").lower() for c in capabilities])
    return ["setpriv", "--bounding-set", bounds, "--no-new-privs"]


@pytest.mark.parametrize("missing", CAPABILITIES)
def test_each_capability_of_its_unit_is_needed(make_world, missing):
    world = make_world(group="games", wrapper=bounded_to(c for c in CAPABILITIES if c != missing))
    with pytest.raises((AssertionError, Refused)):
        world.start()
        world.ask("acquire", vm="vm")


def test_the_capabilities_of_its_unit_are_enough(make_world):
    world = make_world(group="games", wrapper=bounded_to(CAPABILITIES)).start()
    world.echo(world.internet, 80)
    world.name_server().records["www.example.test"] = [ELSEWHERE]
    guest = world.guest(policy={"mode": "egress", "rules": [{"action": "allow", "to": "*.example.test"}]})
    assert guest.resolve("www.example.test") == [ELSEWHERE]
    assert guest.can_connect(ELSEWHERE, 80)
    guest.unplug()
    assert world.ask("release", vm=guest.vm)["released"]
    world.ask("setup", index=77)
    world.ask("teardown", tap_name="noid77")
    world.restart()
    world.command("doctor")


def test_nobody_holds_up_the_others(world):
    silent = [world.connect() for _ in range(100)]
    chatty = [world.connect() for _ in range(20)]
    for connection in chatty:
        connection.sendall(b'{"op":')
    begun = time.monotonic()
    assert world.ask("status")["ok"]
    assert time.monotonic() - begun < 3
    for connection in silent + chatty:
        connection.close()
    with world.connect() as endless:
        with contextlib.suppress(OSError):
            endless.sendall(b"x" * 1_000_000)
        with contextlib.suppress(ConnectionError):
            assert b"too long" in endless.recv(1000)
    assert world.ask("status")["ok"]
