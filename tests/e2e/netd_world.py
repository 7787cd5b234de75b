"""A small internet of network namespaces, with noid-netd at work in its own 'host' namespace.

    internet 198.51.100.1 ---- wan0 198.51.100.2 host noid0 ---- slot ---- guest 10.200.0.2

Nothing of this touches the machine's own network. A guest is a namespace with a real TCP/IP stack whose
frames are carried to and from the slot's TAP; real virtual machines attach to that TAP in the same way.
"""
import contextlib
import ctypes
import fcntl
import json
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
import uuid

from conftest import BIN

INTERNET = "198.51.100.1"
HOST = "198.51.100.2"
ELSEWHERE = "203.0.113.7"  # another host of the internet
METADATA = "169.254.169.254"
RESOLVER = "198.51.100.53"
GUEST_ADDRESS = "10.200.0.2"
GATEWAY = "10.200.0.1"
GUEST_MAC = "aa:fc:00:00:00:02"

_libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000


def run(*command, **kwargs):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=60, **kwargs)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


class Namespace:
    """A network namespace; made unless it exists."""

    def __init__(self, name=None, path=None):
        self.name = name
        self.path = pathlib.Path(path or f"/run/netns/{name}")
        if path is None:
            run("ip", "netns", "add", name)

    @contextlib.contextmanager
    def entered(self):
        """The calling thread is in it; what it opens stays there."""
        with open("/proc/thread-self/ns/net", "rb") as home, open(self.path, "rb") as target:
            assert _libc.setns(target.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
            try:
                yield
            finally:
                assert _libc.setns(home.fileno(), CLONE_NEWNET) == 0

    def command(self, *command):
        return ["nsenter", f"--net={self.path}", *[str(c) for c in command]]

    def run(self, *command, **kwargs):
        return run(*self.command(*command), **kwargs)

    def ip(self, *arguments):
        return self.run("ip", *arguments)

    def sysctl(self, name, value=None):
        """Sets net.`name`, or gives it."""
        path = pathlib.Path("/proc/sys/net", *name.split("."))
        with self.entered():
            return path.read_text() if value is None else path.write_text(str(value))

    def socket(self, kind=socket.SOCK_STREAM, family=socket.AF_INET, protocol=0):
        with self.entered():
            made = socket.socket(family, kind, protocol)
        made.settimeout(5)
        return made

    def listen(self, port, address="0.0.0.0"):
        made = self.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
        made.listen(16)
        return made

    def delete(self):
        run("ip", "netns", "del", self.name)


def attach_tap(name):
    """An open TAP in the calling thread's namespace, made if need be."""
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    iff_tap, iff_no_pi, tunsetiff = 2, 0x1000, 0x400454CA
    try:
        fcntl.ioctl(tap, tunsetiff, struct.pack("16sH22x", name.encode(), iff_tap | iff_no_pi))
    except OSError:
        os.close(tap)
        raise
    return tap


class Guest(Namespace):
    """What a virtual machine is to the network: a stack behind the slot's TAP."""

    def __init__(self, slot):
        super().__init__("noidt-guest-" + uuid.uuid4().hex[:8])
        self.slot = slot
        with Namespace(path=slot["netns"]).entered():
            self.tap = attach_tap(slot["tap"])
        with self.entered():
            self.wire = attach_tap("eth0")
        # What a VMM does not see: the guest's own IPv6 chatter would disturb counters.
        for which in ("all", "default", "eth0"):
            self.sysctl(f"ipv6.conf.{which}.disable_ipv6", 1)
        self.ip("link", "set", "lo", "up")
        self.ip("link", "set", "eth0", "address", GUEST_MAC, "mtu", str(slot["guest"]["mtu"]), "up")
        self.ip("address", "add", slot["guest"]["address"], "dev", "eth0")
        self.ip("route", "add", "default", "via", slot["guest"]["gateway"])
        self.stopped, self._stop = os.pipe()
        self.thread = threading.Thread(target=self._carry, daemon=True)
        self.thread.start()

    def _carry(self):
        poll = select.poll()
        for fd in (self.tap, self.wire, self.stopped):
            poll.register(fd, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == self.stopped:
                    return
                with contextlib.suppress(OSError):
                    os.write(self.wire if fd == self.tap else self.tap, os.read(fd, 65536))

    def send_frame(self, frame):
        """Puts a frame onto the wire as a guest can that does as it likes."""
        os.write(self.tap, frame)

    def connect(self, address, port, timeout=5):
        connection = self.socket()
        connection.settimeout(timeout)
        try:
            connection.connect((address, port))
        except OSError:
            connection.close()
            raise
        return connection

    def can_connect(self, address, port, timeout=0.7):
        try:
            self.connect(address, port, timeout).close()
        except OSError:
            return False
        return True

    def can_ping(self, address):
        request = struct.pack(">BBHHH", 8, 0, 0, 4711, 1) + b"noid"
        request = request[:2] + struct.pack(">H", checksum(request)) + request[4:]
        with self.socket(socket.SOCK_RAW, protocol=socket.IPPROTO_ICMP) as asking:
            asking.settimeout(1)
            try:
                asking.sendto(request, (address, 0))
                while True:
                    answer, source = asking.recvfrom(1000)
                    if source[0] == address and answer[20] == 0:
                        return True
            except OSError:
                return False

    def resolve(self, name, server=GATEWAY, kind=socket.SOCK_DGRAM):
        """The addresses of `name`, or the resolver's error code."""
        query = struct.pack(">6H", 4711, 0x0100, 1, 0, 0, 0) + dns_name(name) + struct.pack(">2H", 1, 1)
        with self.socket(kind) as asking:
            asking.connect((server, 53))
            if kind == socket.SOCK_STREAM:
                asking.sendall(struct.pack(">H", len(query)) + query)
                size = struct.unpack(">H", asking.recv(2, socket.MSG_WAITALL))[0]
                answer = asking.recv(size, socket.MSG_WAITALL)
            else:
                asking.send(query)
                answer = asking.recv(4096)
        assert answer[:2] == query[:2]
        if answer[3] & 15:
            return answer[3] & 15
        count = struct.unpack(">H", answer[6:8])[0]
        records = answer[len(query):]
        return [socket.inet_ntoa(records[i * 16 + 12:i * 16 + 16]) for i in range(count)]

    def unplug(self):
        if self._stop is None:
            return
        os.write(self._stop, b"x")
        self.thread.join(10)
        for fd in (self.tap, self.wire, self.stopped, self._stop):
            os.close(fd)
        self._stop = None
        self.delete()


def checksum(data):
    """Of IP and ICMP headers, for an even number of bytes."""
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def dns_name(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


class NameServer:
    """Answers for the names in `records`; remembers what it was asked."""

    def __init__(self, namespace, address):
        self.records = {}
        self.asked = []
        self.datagrams = namespace.socket(socket.SOCK_DGRAM)
        self.datagrams.bind((address, 53))
        self.listener = namespace.listen(53, address)
        for each in (self.datagrams, self.listener):
            each.settimeout(None)
        for target in (self._serve_datagrams, self._serve_connections):
            threading.Thread(target=target, daemon=True).start()

    def _answer(self, query):
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode())
            at += 1 + query[at]
        name = ".".join(labels).lower()
        self.asked.append(name)
        question = query[12:at + 5]
        addresses = self.records.get(name)
        code = 3 if addresses is None else 0
        addresses = addresses or []
        head = query[:2] + struct.pack(">5H", 0x8180 | code, 1, len(addresses), 0, 0)
        return head + question + b"".join(
            b"\xc0\x0c" + struct.pack(">2HIH", 1, 1, 60, 4) + socket.inet_aton(a) for a in addresses)

    def _serve_datagrams(self):
        with contextlib.suppress(OSError):
            while True:
                query, source = self.datagrams.recvfrom(4096)
                if not query:
                    return  # closed
                self.datagrams.sendto(self._answer(query), source)

    def _serve_connections(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                with connection:
                    size = struct.unpack(">H", connection.recv(2, socket.MSG_WAITALL))[0]
                    answer = self._answer(connection.recv(size, socket.MSG_WAITALL))
                    connection.sendall(struct.pack(">H", len(answer)) + answer)

    def close(self):
        for each in (self.datagrams, self.listener):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


class EchoServer:
    """Says at a TCP port from where it was connected to, then sends everything back."""

    def __init__(self, namespace, port, address="0.0.0.0"):
        self.listener = namespace.listen(port, address)
        self.listener.settimeout(None)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, peer = self.listener.accept()
                threading.Thread(target=self._serve, args=(connection, peer), daemon=True).start()

    @staticmethod
    def _serve(connection, peer):
        with contextlib.suppress(OSError), connection:
            connection.settimeout(60)
            connection.sendall(peer[0].encode() + b"\n")
            while data := connection.recv(65536):
                connection.sendall(data)

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def read_line(connection):
    line = b""
    while not line.endswith(b"\n"):
        got = connection.recv(1)
        assert got, "the connection ended"
        line += got
    return line.decode().strip()


def read_exactly(connection, amount):
    data = b""
    while len(data) < amount:
        got = connection.recv(min(65536, amount - len(data)))
        assert got, f"the connection ended after {len(data)} bytes"
        data += got
    return data


class Refused(Exception):
    def __init__(self, answer):
        super().__init__(answer["error"])
        self.answer = answer


class World:
    """`wrapper`: a command that noid-netd is run by."""

    def __init__(self, wrapper=(), **settings):
        self.wrapper = wrapper
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="noid-netd-"))
        self.directory.chmod(0o755)  # so that other users get as far as the socket
        suffix = uuid.uuid4().hex[:8]
        self.host = Namespace("noidt-host-" + suffix)
        self.internet = Namespace("noidt-inet-" + suffix)
        self.guests = []
        self.servers = []
        self.process = None
        self.socket_path = self.directory / "netd.sock"
        self.log = self.directory / "netd.log"
        self._wire()
        self.settings = {"socket": str(self.socket_path), "state_dir": str(self.directory / "state"),
                         "netns_dir": str(self.directory / "netns"), "dns": [RESOLVER], "ready": 2, **settings}
        self.write_config()

    def _wire(self):
        run("ip", "link", "add", "wan0", "netns", self.host.name, "type", "veth",
            "peer", "name", "net0", "netns", self.internet.name)
        for namespace in (self.host, self.internet):
            namespace.ip("link", "set", "lo", "up")
        self.host.ip("address", "add", f"{HOST}/24", "dev", "wan0")
        self.host.ip("link", "set", "wan0", "up")
        for address in (f"{INTERNET}/24", f"{RESOLVER}/24", f"{ELSEWHERE}/32", f"{METADATA}/32"):
            self.internet.ip("address", "add", address, "dev", "net0")
        self.internet.ip("link", "set", "net0", "up")
        self.host.ip("route", "add", "default", "via", INTERNET)
        self.host.sysctl("ipv4.ip_forward", 0)

    def write_config(self):
        lines = [f"{key} = {json.dumps(value)}" for key, value in self.settings.items()]
        (self.directory / "netd.toml").write_text("\n".join(lines) + "\n")

    def echo(self, namespace, port, address="0.0.0.0"):
        self.servers.append(EchoServer(namespace, port, address))

    def name_server(self):
        server = NameServer(self.internet, RESOLVER)
        self.servers.append(server)
        return server

    # --- noid-netd -----------------------------------------------------------------------------------

    def start(self):
        assert self.process is None
        ours, theirs = os.pipe()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.host.command(*self.wrapper, BIN / "noid-netd", "--config", self.directory / "netd.toml",
                                  "run", "--ready-fd", theirs),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[theirs])
        os.close(theirs)
        with os.fdopen(ours, "rb") as pipe:
            readable, _, _ = select.select([pipe], [], [], 60)
            said = pipe.readline() if readable else b""
        assert said == b"ready\n", self.log.read_text()
        return self

    def stop(self, sig=signal.SIGTERM):
        process, self.process = self.process, None
        process.send_signal(sig)
        code = process.wait(30)
        assert code in (0, -sig), self.log.read_text()

    def restart(self, sig=signal.SIGKILL):
        self.stop(sig)
        self.start()

    def command(self, *arguments, check=True):
        done = subprocess.run(
            self.host.command(BIN / "noid-netd", "--config", self.directory / "netd.toml", *arguments),
            capture_output=True, text=True, timeout=60)
        assert not check or done.returncode == 0, (done.stdout, done.stderr)
        return done

    def connect(self):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(30)
        connection.connect(str(self.socket_path))
        return connection

    def say(self, line):
        """Sends a line and gives the answer as it came."""
        with self.connect() as connection:
            connection.sendall(line.encode() + b"\n")
            answer = b""
            while got := connection.recv(65536):
                answer += got
        return answer.decode()

    def ask(self, op, **fields):
        answer = json.loads(self.say(json.dumps({"op": op, **fields})))
        if not answer["ok"]:
            raise Refused(answer)
        return answer

    def guest(self, vm=None, **fields):
        """A guest in a slot of its own."""
        vm = vm or "vm-" + uuid.uuid4().hex[:8]
        guest = Guest(self.ask("acquire", vm=vm, **fields))
        guest.vm = vm
        self.guests.append(guest)
        return guest

    def set_policy(self, guest, **policy):
        return self.ask("policy", vm=guest.vm, policy=policy)["policy"]

    def stats(self, guest):
        return self.ask("stats", vm=guest.vm)["vms"][0]

    def wait_until(self, condition, limit=15):
        """For what netd does after it has answered, and tells nobody."""
        end = time.monotonic() + limit
        while not condition():
            assert time.monotonic() < end, self.log.read_text()[-4000:]
            time.sleep(0.02)

    def slots(self):
        """Namespaces of slots, used or ready."""
        return sorted(p.name for p in (self.directory / "netns").glob("*"))  # cleanup removes it when it is empty

    def rules(self):
        """Everything that the host's packet filters hold, without counters."""
        # Tables are listed in the order in which they were made.
        tables = re.sub("counter packets [0-9]+ bytes [0-9]+", "counter",
                        self.host.run("nft", "-s", "list", "ruleset")).split("\n}\n")
        return {"iptables": [line for line in self.host.run("iptables-save").splitlines()
                             if not line.startswith("#")],
                "nft": sorted(filter(None, tables)),
                "links": sorted(link.split("@")[0] for link in
                                (line.split()[0] for line in self.host.ip("-br", "link").splitlines())),
                "routes": self.host.ip("route"),
                "ip_forward": self.host.sysctl("ipv4.ip_forward")}

    def close(self):
        for guest in self.guests:
            guest.unplug()
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        self.command("cleanup", check=False)
        for server in self.servers:
            server.close()
        for namespace in (self.host, self.internet):
            namespace.delete()
        log = self.log.read_text() if self.log.exists() else ""
        shutil.rmtree(self.directory, ignore_errors=True)
        assert "ERROR: AddressSanitizer" not in log and "runtime error:" not in log, log[-8000:]
