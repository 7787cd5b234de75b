"""A guest whose root does as it likes with frames: what of it is seen outside of its slot.

The guest is a real VM; its script has raw sockets and changes its own addresses. Everything that it sends carries
a marker, and every device of the host, the internet and a second guest is listened to.
"""
import contextlib
import os
import select
import socket
import struct
import threading

import pytest

from netd_world import GATEWAY, GUEST_ADDRESS, HOST, INTERNET, Namespace
from networked_vms import (NEEDS_A_NETWORK, PORT, address_of, api, bash, networked_server,  # noqa: F401
                           peer_seen_by, world)

pytestmark = NEEDS_A_NETWORK

MARKER = b"noid-forged:"
HONEST = b"noid-honest"
GUEST_IPV6 = "2001:db8:1::2"

# Runs in the guest. `send(label, frame)` puts a frame on the wire as it is.
PRELUDE = f"""
import fcntl, os, socket, struct, subprocess, sys
device = next(d for d in os.listdir("/sys/class/net") if d != "lo")
own_mac = bytes.fromhex(open(f"/sys/class/net/{{device}}/address").read().replace(":", ""))
gateway_mac = bytes.fromhex("aafc00000001")
everybody = b"\\xff" * 6
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind((device, 0))

def run(*command):
    subprocess.run(command, check=True, capture_output=True)

def mark(label):
    return b"noid-forged:" + label.encode() + b";"

def checksum(data):
    total = sum(struct.unpack(f">{{len(data) // 2}}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff

def ipv4(source, destination, payload, protocol=17, fragment=0):
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 7, fragment, 64, protocol, 0,
                       socket.inet_aton(source), socket.inet_aton(destination))
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + payload

def udp(label):
    payload = mark(label)
    return struct.pack(">4H", 1000, 9, 8 + len(payload), 0) + payload

def ipv6(source, destination, payload, header=58):
    return struct.pack(">IHBB16s16s", 6 << 28, len(payload), header, 255, socket.inet_pton(socket.AF_INET6, source),
                       socket.inet_pton(socket.AF_INET6, destination)) + payload

def ethernet(payload, kind=0x0800, source=own_mac, to=gateway_mac):
    wire.send(to + source + struct.pack(">H", kind) + payload)
"""

FORGERIES = {
    "another source address": """
for number, source in enumerate(("10.200.0.1", "10.200.0.3", "172.16.0.2", "172.16.0.6", "198.51.100.9",
                                 "127.0.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1")):
    ethernet(ipv4(source, INTERNET, udp(f"source{number}")))
    ethernet(ipv4(source, INTERNET, mark(f"icmp{number}"), protocol=1))
    ethernet(ipv4(source, INTERNET, udp(f"fragment{number}"), fragment=0x2000))
""",
    "another MAC in the frame": """
for number, mac in enumerate((gateway_mac, everybody, bytes(6), bytes.fromhex("aafc00000003"),
                              bytes.fromhex("010203040506"))):
    ethernet(ipv4(GUEST, INTERNET, udp(f"mac{number}")), source=mac)
""",
    "another MAC of the device": """
run("ip", "link", "set", device, "address", "aa:fc:00:00:00:77")
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for number in range(3):
    sender.sendto(mark(f"device{number}"), (INTERNET, 9))
run("ip", "link", "set", device, "address", ":".join(f"{byte:02x}" for byte in own_mac))
""",
    "another address of the device": """
for number, address in enumerate(("198.51.100.77", "172.16.0.6", "10.200.7.7")):
    run("ip", "address", "add", address + "/32", "dev", device)
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind((address, 0))
    sender.sendto(mark(f"address{number}"), (INTERNET, 9))
    run("ip", "address", "delete", address + "/32", "dev", device)
""",
    "somebody else's ARP": """
def arp(operation, mac, address, target):
    return struct.pack(">HHBBH6s4s6s4s", 1, 0x0800, 6, 4, operation, mac, socket.inet_aton(address), bytes(6),
                       socket.inet_aton(target))
for claimed in ("10.200.0.1", "172.16.0.1", "198.51.100.1"):
    for operation in (1, 2):
        ethernet(arp(operation, own_mac, claimed, GUEST) + mark("arp"), kind=0x0806, to=everybody)
ethernet(arp(2, gateway_mac, GUEST, "10.200.0.1") + mark("arp-mac"), kind=0x0806)
""",
    "IPv6 of its own": """
for which in ("all", "default", device):
    open(f"/proc/sys/net/ipv6/conf/{which}/disable_ipv6", "w").write("0")
run("ip", "-6", "address", "replace", GUEST6 + "/64", "dev", device, "nodad")
run("ip", "-6", "neighbour", "replace", "2001:db8:1::1", "lladdr", "aa:fc:00:00:00:01", "dev", device)
run("ip", "-6", "route", "replace", "default", "via", "2001:db8:1::1", "dev", device)
sender = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
for number in range(3):
    sender.sendto(mark(f"udp6-{number}"), (INTERNET6, 9))
for group in ("ff02::1", "ff02::2", "ff02::1:2"):
    sender.sendto(mark("multicast6"), (group, 547, 0, socket.if_nametoindex(device)))
stream = socket.socket(socket.AF_INET6)
stream.settimeout(0.3)
try:
    stream.connect((INTERNET6, 80))
    raise SystemExit("it got through")
except OSError:
    pass
echo = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
echo.sendto(struct.pack(">BBHHH", 128, 0, 0, 1, 1) + mark("ping6"), (INTERNET6, 0))
""",
    "IPv6 by hand": """
options = bytes([1, 1]) + own_mac
for number, (kind, body) in enumerate(((134, struct.pack(">BBHII", 64, 0, 9000, 0, 0)),       # router advertisement
                                       (133, bytes(4)),                                        # solicitation
                                       (135, bytes(4) + bytes.fromhex("fe80" + "00" * 14)),    # neighbour's
                                       (136, b"\\xe0\\0\\0\\0" + bytes.fromhex("fe80" + "00" * 14)))):
    message = bytes([kind, 0, 0, 0]) + body + options + mark(f"nd{number}")
    for to in (gateway_mac, everybody, bytes.fromhex("333300000001")):
        ethernet(ipv6("fe80::1", "ff02::1", message), kind=0x86DD, to=to)
ethernet(ipv6("2001:db8::1", INTERNET6, udp("forged6"), header=17), kind=0x86DD)
""",
    "other kinds of frames": """
for number, kind in enumerate((0x8100, 0x88A8, 0x8864, 0x8847, 0x88CC, 0x88E5, 0x0842, 0x9000)):
    for to in (gateway_mac, everybody, bytes.fromhex("0180c2000000")):
        ethernet(bytes(4) + mark(f"kind{number}"), kind=kind, to=to)
ethernet(struct.pack(">HH", 1, 0x0800) + ipv4(GUEST, INTERNET, udp("vlan")), kind=0x8100)
""",
}


class Listener:
    """Keeps every frame that a device of the namespace sends or gets, with the device's name."""

    def __init__(self, namespace):
        self.frames = []
        with namespace.entered():
            everything = 0x0003
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(everything))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.stopped, self._stop = os.pipe()
        self.arrived = threading.Condition()
        self.thread = threading.Thread(target=self._listen, daemon=True)
        self.thread.start()

    def _listen(self):
        while True:
            ready, _, _ = select.select([self.socket, self.stopped], [], [])
            if self.stopped in ready:
                return
            frame, address = self.socket.recvfrom(65536)
            with self.arrived:
                self.frames.append((address[0], frame))
                self.arrived.notify_all()

    def wait_for(self, payload):
        with self.arrived:
            assert self.arrived.wait_for(lambda: any(payload in frame for _, frame in self.frames), 60), payload

    def close(self):
        os.write(self._stop, b"x")
        self.thread.join(10)
        self.socket.close()
        os.close(self.stopped)
        os.close(self._stop)


@pytest.fixture
def outside(world, api):
    """Listeners everywhere where a guest's forgeries could come out, and the guest's own slot's end."""
    api.create("hostile")
    api.create("neighbour")
    slots = {s["guest_ip"]: s["index"] for s in world.ask("stats")["vms"]}
    neighbour = Namespace(path=world.directory / "netns" / f"noid{slots[address_of(api, 'neighbour')]}")
    world.internet.ip("address", "replace", "2001:db8::1/64", "dev", "net0", "nodad")
    with contextlib.ExitStack() as stack:
        listeners = {}
        for name, namespace in (("host", world.host), ("internet", world.internet), ("neighbour", neighbour)):
            listeners[name] = Listener(namespace)
            stack.callback(listeners[name].close)
        yield listeners


def is_ipv6_of_a_slot(device, frame):
    return device.startswith("noid") and frame[12:14] == struct.pack(">H", 0x86DD)


@pytest.mark.parametrize("forgery", FORGERIES)
def test_nothing_forged_leaves_the_slot(world, api, outside, forgery):
    address = address_of(api, "hostile")
    before = next(s for s in world.ask("stats")["vms"] if s["guest_ip"] == address)
    names = f"INTERNET, GUEST, HOST = {INTERNET!r}, {GUEST_ADDRESS!r}, {HOST!r}\n" \
            f"INTERNET6, GUEST6 = '2001:db8::1', {GUEST_IPV6!r}\n"
    # What is honest comes last, and by the same way: when it is seen, all before it was seen or dropped.
    # A guest that asks for the gateway's MAC in a false name is not answered, and takes a moment to try again.
    honest = "for attempt in range(20):\n" \
             "    try:\n" \
             f"        last = socket.create_connection((INTERNET, {PORT}), 30)\n" \
             "        break\n" \
             "    except OSError:\n" \
             "        pass\n" \
             f"last.sendall({HONEST!r})\n"
    done = api.exec("hostile", "python3", "-c", names + PRELUDE + FORGERIES[forgery] + honest, timeout_ms=60_000)
    assert done["exit_code"] == 0, done
    outside["internet"].wait_for(HONEST)
    seen = [(place, device, frame) for place, listener in outside.items() for device, frame in listener.frames
            if MARKER in frame or is_ipv6_of_a_slot(device, frame)]
    assert not seen, seen[:5]
    after = next(s for s in world.ask("stats")["vms"] if s["guest_ip"] == address)
    dropped = sum(after[why]["packets"] - before[why]["packets"] for why in ("forged", "isolated"))
    assert dropped > 0, "what is dropped is counted"
    # It has cut nobody off, not even itself.
    assert peer_seen_by(api, "neighbour", INTERNET) == HOST
    assert peer_seen_by(api, "hostile", INTERNET) == HOST
    assert GATEWAY in bash(api, "neighbour", "cat /etc/resolv.conf")["stdout"]
