"""Network slots against the same kernel objects made by hand, and what a guest's traffic loses on its way."""
import concurrent.futures
import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from qemu_booted import Booted
from measure import Measurement
from product import Product

READY_LIMIT_MS = 2.0
MANY = 200
NEW_SLOTS = 60
MEMORY = 256
STREAM_MIB = 64


def make_world(bench, **settings):
    """noid-netd in an internet of namespaces, as the tests have it."""
    os.environ["NOID_TEST_BIN"] = str(bench.binaries)
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "e2e"))
    import netd_world  # after NOID_TEST_BIN: it takes its programs from there
    # As in its unit, what it keeps is in memory.
    return netd_world.World(state_dir=tempfile.mkdtemp(prefix="noid-bench-netd-", dir="/dev/shm"), **settings)


def timed(action):
    start = time.perf_counter()
    action()
    return (time.perf_counter() - start) * 1e3


def slot_ready(bench):
    """`acquire` while slots are ready, asked over the socket; against what is promised."""
    world = make_world(bench, ready=8).start()
    try:
        ours = []
        for run in range(40):
            world.wait_until(lambda: "8 ready" in world.command("doctor", check=False).stdout)
            ours.append(timed(lambda run=run: world.ask("acquire", vm=f"vm{run}")))
        return Measurement("network-slot-ready", ours, [READY_LIMIT_MS] * len(ours), "ms", 1.0)
    finally:
        world.close()


def slot_new(bench):
    """`acquire` with nothing ready, against the same messages from a bare program; in turn, and all are kept, so
    that both meet the same kernel, which never takes a slot apart meanwhile."""
    world = make_world(bench, ready=0).start()
    try:
        ours, floor = [], []
        with tempfile.TemporaryDirectory(prefix="noid-bench-") as directory:
            command = world.host.command(bench.binaries / "noid-bench-netlink", "--directory", directory,
                                         "--slots", NEW_SLOTS)
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as bare:
                if bare.stdout.readline() != "ready\n":
                    raise RuntimeError("the bare program does not come up")

                def ask_bare():
                    bare.stdin.write("\n")
                    bare.stdin.flush()
                    if bare.stdout.readline() != "made\n":
                        raise RuntimeError("the bare program makes no slot")

                for run in range(NEW_SLOTS):
                    ours.append(timed(lambda run=run: world.ask("acquire", vm=f"vm{run}")))
                    floor.append(timed(ask_bare))
            if bare.returncode:
                raise RuntimeError(f"the bare program failed: {bare.returncode}")
        return Measurement("network-slot-new", ours, floor, "ms", 1.5)
    finally:
        world.close()


def slots_200(bench):
    """Lines in the kernel's tables after 200 slots came and went, against before. More is a leak."""
    world = make_world(bench, ready=0)
    try:
        before = world.rules()
        world.start()
        names = [f"vm{number}" for number in range(MANY)]
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda vm: world.ask("acquire", vm=vm), names))
            list(pool.map(lambda vm: world.ask("release", vm=vm), names))
        world.wait_until(lambda: not world.slots(), limit=300)
        world.stop()
        world.command("cleanup")
        after = world.rules()
        if after != before:
            raise RuntimeError(f"the host is not as it was: {before} became {after}")

        def lines(tables):
            return float(sum(len(table) if isinstance(table, list) else len(table.splitlines())
                             for table in tables.values()))
        return Measurement("network-slots-200", [lines(after)], [lines(before)], "lines", 1.0)
    finally:
        world.close()


class Receiver:
    """Measures connections that come in one after the other."""

    def __init__(self, namespace, port):
        self.listener = namespace.listen(port)
        self.listener.settimeout(120)

    def rate(self):
        """Bytes per second from the first byte to the last."""
        connection, _ = self.listener.accept()
        buffer = bytearray(1 << 20)
        with connection:
            connection.settimeout(120)
            count, start = connection.recv_into(buffer), time.perf_counter()
            while got := connection.recv_into(buffer):
                count += got
            return count / (time.perf_counter() - start)


def throughput(bench):
    """TCP out of a guest, through its slot to the internet, against the same VM on a TAP of the host; in turn."""
    ours, floor = [], []
    with contextlib.ExitStack() as stack:
        product = Product(bench)
        world = make_world(bench, ready=1, socket=str(product.directory / "netd.sock"))
        stack.callback(world.close)
        world.start()
        stack.enter_context(product)
        product.request("POST", "/v1/vms", {"name": "vm", "mem_mib": MEMORY})
        world.host.ip("tuntap", "add", "bare0", "mode", "tap")
        world.host.ip("address", "add", "192.0.2.1/24", "dev", "bare0")
        world.host.ip("link", "set", "bare0", "up")
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="noid-bench-"))
        bare = stack.enter_context(
            Booted(f"{directory}/vm", bench.images, MEMORY, tap="bare0", wrapper=world.host.command()))

        def in_bare(script):
            subprocess.run([bench.binaries / "noid-bench-agent", bare.agent, "--", "/bin/sh", "-c", script],
                           check=True, capture_output=True, timeout=120)

        def in_product(script):
            product.request("POST", "/v1/vms/vm/exec", {"command": ["/bin/sh", "-c", script], "timeout_ms": 120000})

        # The agent answers before the driver has found its device, and nothing tells when it has.
        in_bare("cd /sys/class/net && timeout 30 sh -c 'until ls -d e*; do :; done'")
        in_bare("cd /sys/class/net && ip address add 192.0.2.2/24 dev e* && ip link set e* up")
        ways = ((in_product, Receiver(world.internet, 9000), "198.51.100.1", ours),
                (in_bare, Receiver(world.host, 9001), "192.0.2.1", floor))
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            for round_number in range(6):
                for run, receiver, address, rates in ways:
                    port = receiver.listener.getsockname()[1]
                    sent = pool.submit(run, f"bash -c 'head -c {STREAM_MIB << 20} /dev/zero >/dev/tcp/{address}/{port}'")
                    rate = receiver.rate()
                    sent.result(120)
                    if round_number > 0:  # the first one warms up
                        rates.append(rate / 2**20)
    return Measurement("network-throughput", ours, floor, "MiB/s", 0.9, "more")


BENCHMARKS = {"network-slot-ready": slot_ready, "network-slot-new": slot_new, "network-slots-200": slots_200,
              "network-throughput": throughput}
