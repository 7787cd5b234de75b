"""Commands, requests, memory and the way from nothing to a VM."""
import base64
import os
import pathlib
import shutil
import socket
import sqlite3
import statistics
import struct
import subprocess
import tempfile
import time
import uuid

from measure import Measurement
from product import Product

MEMORY = 256
STREAM_MIB = 64


def numbers_of(bench, *arguments):
    done = subprocess.run([*arguments], check=True, capture_output=True, text=True, timeout=600)
    return [float(line) for line in done.stdout.split()]


def timed(action):
    start = time.perf_counter()
    action()
    return (time.perf_counter() - start) * 1e3


def exec_round_trip(bench):
    """A warm /bin/true over REST, against the agent's socket by hand; batches in turn."""
    ours, floor = [], []
    with Product(bench) as product, \
            tempfile.TemporaryDirectory(prefix="noid-bench-") as directory, \
            bench.by_hand.Booted(f"{directory}/vm", bench.images, MEMORY) as bare:
        product.request("POST", "/v1/vms", {"name": "vm", "mem_mib": MEMORY})

        def rest():
            product.request("POST", "/v1/vms/vm/exec", {"command": ["/bin/true"]})

        for warm_up in range(20):
            rest()
        numbers_of(bench, bench.binaries / "noid-bench-agent", bare.agent, "/bin/true", "--runs", "20")
        for batch in range(6):
            ours += [timed(rest) for _ in range(25)]
            floor += [us / 1e3 for us in numbers_of(bench, bench.binaries / "noid-bench-agent", bare.agent,
                                                    "/bin/true", "--runs", "25")]
    return Measurement("exec-true", ours, floor, "ms", 1.3)


def read_exactly(stream, count):
    data = stream.read(count)
    if len(data) != count:
        raise RuntimeError("the stream ended early")
    return data


def stream_over_web_socket(product, vm, command):
    """Bytes per second of a command's output; no library between, so that the client is no bottleneck."""
    with socket.create_connection(("127.0.0.1", product.port), timeout=120) as connection:
        key = base64.b64encode(os.urandom(16)).decode()
        connection.sendall((f"GET /v1/vms/{vm}/exec HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
                            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
                            f"Authorization: Bearer {product.token}\r\n\r\n").encode())
        stream = connection.makefile("rb", buffering=1 << 20)
        while stream.readline() not in (b"\r\n", b""):
            pass
        request = ('{"command":["' + '","'.join(command) + '"]}').encode()
        connection.sendall(bytes([0x81, 0x80 | len(request)]) + b"\0\0\0\0" + request)
        start, count = time.perf_counter(), 0
        while True:
            first, size = read_exactly(stream, 2)
            if size == 126:
                size = struct.unpack(">H", read_exactly(stream, 2))[0]
            elif size == 127:
                size = struct.unpack(">Q", read_exactly(stream, 8))[0]
            read_exactly(stream, size)
            if first & 15 == 2:
                count += size - 1
            else:
                return count / (time.perf_counter() - start)


def stream_stdout(bench):
    """A command's output over a WebSocket, against the bare channel."""
    command = ["/usr/bin/head", "-c", str(STREAM_MIB << 20), "/dev/zero"]
    ours, floor = [], []
    with Product(bench) as product, \
            tempfile.TemporaryDirectory(prefix="noid-bench-") as directory, \
            bench.by_hand.Booted(f"{directory}/vm", bench.images, MEMORY) as bare:
        product.request("POST", "/v1/vms", {"name": "vm", "mem_mib": MEMORY})
        for _ in range(5):
            floor += numbers_of(bench, bench.binaries / "noid-bench-agent", bare.agent, "--throughput", "--",
                                *command)
            ours.append(stream_over_web_socket(product, "vm", command))
    return Measurement("stream-stdout", [rate / 2**20 for rate in ours], [rate / 2**20 for rate in floor], "MiB/s",
                       0.8, "more")


def list_vms(bench):
    """GET /v1/vms with authentication, against a server that gives the same bytes without looking."""
    ours, floor = [], []
    with Product(bench) as product, tempfile.NamedTemporaryFile() as body:
        product.request("POST", "/v1/vms", {"name": "vm", "mem_mib": 128})
        product.http.request("GET", "/v1/vms", headers={"Authorization": f"Bearer {product.token}"})
        body.write(product.http.getresponse().read())
        body.flush()
        with subprocess.Popen([bench.binaries / "noid-bench-http", "serve", body.name], text=True,
                              stdout=subprocess.PIPE) as bare:
            port = bare.stdout.readline().strip()
            load = [bench.binaries / "noid-bench-http", "load"]
            for _ in range(6):
                ours += numbers_of(bench, *load, str(product.port), "/v1/vms", "--token", product.token)
                floor += numbers_of(bench, *load, port, "/v1/vms")
            bare.kill()
    return Measurement("list-vms", ours, floor, "1/s", 0.5, "more")


def idle_memory(bench):
    """What the idle server with 100 VM records keeps resident; the floor is the promised size itself."""
    product = Product(bench)
    with product:
        product.request("POST", "/v1/vms", {"name": "vm-0", "mem_mib": 128})
        product.request("POST", "/v1/vms/vm-0/stop")
        product.process.terminate()
        product.process.wait(30)
        [database] = pathlib.Path(product.data_dir / "users").glob("*/noid.db")
        copy_record(database, 99)
        product.start()
        if len(product.request("GET", "/v1/vms")) != 100:
            raise RuntimeError("there are not 100 records")
        resident = product.resident_bytes() / 2**20
    return Measurement("idle-memory", [resident], [25.0], "MiB", 1.0)


def copy_record(database, count):
    with sqlite3.connect(database) as connection:
        connection.row_factory = sqlite3.Row
        record = dict(connection.execute("SELECT * FROM vms").fetchone())
        columns = ", ".join(record)
        marks = ", ".join("?" for _ in record)
        for number in range(1, count + 1):
            record["id"] = str(uuid.uuid4())
            record["name"] = f"vm-{number}"
            connection.execute(f"INSERT INTO vms ({columns}) VALUES ({marks})", list(record.values()))


def create(bench):
    """A create that boots, POST /v1/vms to its answer, which is when the agent has answered, against the VMM by
    hand up to the same moment; the image's copy is part of both. The promise is at most 50 ms more."""
    ours, floor = [], []
    with Product(bench, storage={"template_budget": 0}) as product, \
            tempfile.TemporaryDirectory(prefix="noid-bench-", dir=product.directory) as directory:
        for run in range(7):
            ours.append(timed(lambda: product.request("POST", "/v1/vms", {"name": "vm", "mem_mib": MEMORY})))
            product.request("DELETE", "/v1/vms/vm")

            def by_hand():
                with bench.by_hand.Booted(f"{directory}/vm-{run}", bench.images, MEMORY) as bare:
                    numbers_of(bench, bench.binaries / "noid-bench-agent", bare.agent)

            floor.append(timed(by_hand))
    middle = sorted(floor)[len(floor) // 2]
    return Measurement("create", ours, floor, "ms", (middle + 50) / middle)


def jail_start(bench):
    """What confinement adds to a VMM's start, from the order to a guest that runs; starts in turn with it and
    without. The promise is at most 15 ms more."""
    program = shutil.which("firecracker" if bench.vmm == "firecracker" else "qemu-system-x86_64")
    done = subprocess.run(
        [bench.binaries / "noid-bench-start", "--vmm", bench.vmm, "--program", program], check=True,
        stdout=subprocess.PIPE, text=True, timeout=600)
    times = {"confined": [], "bare": []}
    for line in done.stdout.splitlines():
        kind, milliseconds = line.split()
        times[kind].append(float(milliseconds))
    middle = statistics.median(times["bare"])
    # By pairs, one right after the other: starts in an emulated host differ by more than what is looked for.
    confined = [middle + one - other for one, other in zip(times["confined"], times["bare"])]
    return Measurement("jail-start", confined, times["bare"], "ms", (middle + 15) / middle)


BENCHMARKS = {"exec-true": exec_round_trip, "stream-stdout": stream_stdout, "list-vms": list_vms,
              "idle-memory": idle_memory, "create": create, "jail-start": jail_start}
