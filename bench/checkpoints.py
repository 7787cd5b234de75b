"""Waking, saving and cloning, each against the VMM by hand on the files that the server made."""
import concurrent.futures
import contextlib
import http.client
import json
import os
import pathlib
import socket
import subprocess
import threading
import time

from bare_agent_client import BareAgent
from measure import Measurement
from product import Product
from reflink_disk import ReflinkDisk

MIB = 1 << 20
SMALL, LARGE = 256, 2048
DIRTY = 32 * MIB
CLONES = 50


@contextlib.contextmanager
def world(bench, **settings):
    """A server with its data on a file system that shares blocks, and a directory there for the floor."""
    with ReflinkDisk() as disk, Product(bench, parent=disk.directory, **settings) as product, \
            BareAgent(bench, "/bin/true") as agent:
        by_hand = disk.directory / "by-hand"
        by_hand.mkdir()
        yield product, agent, by_hand


def timed(action):
    start = time.perf_counter()
    action()
    return (time.perf_counter() - start) * 1e3


def create(product, name, memory):
    product.request("POST", "/v1/vms", {"name": name, "mem_mib": memory})


def run(product, vm, script="true"):
    done = product.request("POST", f"/v1/vms/{vm}/exec", {"command": ["/bin/sh", "-c", script], "timeout_ms": 60000})
    if done["exit_code"] != 0:
        raise RuntimeError(f"{script}: {done}")


def bake(product, memory):
    """Makes the template of that size; the directory it is in."""
    templates = product.data_dir / "templates"
    before = set(templates.iterdir())
    create(product, "first", memory)
    deadline = time.monotonic() + 120
    while True:  # the API has no event for it
        new = [one for one in set(templates.iterdir()) - before if not one.name.startswith(".")]
        if new:
            product.request("DELETE", "/v1/vms/first")
            return new[0]
        if time.monotonic() > deadline:
            raise RuntimeError("no template was made")
        time.sleep(0.1)


def wake_by_hand(bench, agent, directory, snapshot, memory):
    with contextlib.ExitStack() as stack:
        def wake():
            machine = stack.enter_context(bench.by_hand.Woken(directory, snapshot, memory))
            agent.run(machine.agent)
        return timed(wake)


def template_create(bench):
    """POST /v1/vms out of a template and the first command's answer, for a small and a large VM."""
    sizes = (SMALL, LARGE)
    ours, floor = {size: [] for size in sizes}, {size: [] for size in sizes}
    with world(bench) as (product, agent, by_hand):
        templates = {size: bake(product, size) for size in sizes}

        def create_and_run(size):
            create(product, "vm", size)
            product.request("POST", "/v1/vms/vm/exec", {"command": ["/bin/true"]})

        for turn in range(16):
            for size in sizes:
                times = (timed(lambda: create_and_run(size)),
                         wake_by_hand(bench, agent, by_hand / "vm", templates[size], size))
                product.request("DELETE", "/v1/vms/vm")
                if turn > 0:  # the first warms the caches
                    ours[size].append(times[0])
                    floor[size].append(times[1])
    return [Measurement("template-create", ours[SMALL], floor[SMALL], "ms", 1.3),
            Measurement("template-create-2g", ours[LARGE], floor[LARGE], "ms", 1.3),
            Measurement("template-create-2g-to-256m", ours[LARGE], ours[SMALL], "ms", 1.1)]


def wait_for_pool(product):
    """Until a VM is kept ready and the server is at rest."""
    deadline = time.monotonic() + 120
    while "noid_pool_ready 1\n" not in product.page("/metrics"):  # the API has no event for it
        if time.monotonic() > deadline:
            raise RuntimeError("no VM was kept ready")
        time.sleep(0.05)


def pool_create(bench):
    """POST /v1/vms and the first command's answer: out of the warm pool, against waking the same template."""
    ours, floor = [], []
    with world(bench, pool={"size": 1, "memory": 1024}) as (pooled, _, _), world(bench) as (plain, _, _):
        def create_and_run(product):
            made = product.request("POST", "/v1/vms", {"name": "vm", "mem_mib": SMALL})
            product.request("POST", "/v1/vms/vm/exec", {"command": ["/bin/true"]})
            return made["start"]

        for product in (pooled, plain):
            bake(product, SMALL)
        for turn in range(16):
            for product, times, start in ((pooled, ours, "pool"), (plain, floor, "template")):
                wait_for_pool(pooled)  # nothing is refilled beside the measurement
                began = time.perf_counter()
                if create_and_run(product) != start:
                    raise RuntimeError(f"it did not come from the {start}")
                if turn > 0:  # the first warms the caches
                    times.append((time.perf_counter() - began) * 1e3)
                product.request("DELETE", "/v1/vms/vm")
    return Measurement("pool-create", ours, floor, "ms", 0.25)


class Ticker:
    """When a guest that writes to its console again and again was heard: the longest silence is its pause."""

    @staticmethod
    def command(every_ms):
        return (f"perl -e '$|=1; while (1) {{ print \".\"; select(undef, undef, undef, {every_ms / 1000}) }}' "
                ">/dev/ttyS0")

    def __init__(self, read):
        """`read` gives the console's next bytes, and fails or gives none when the console is gone."""
        self.read = read
        self.heard = []
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()

    def listen(self):
        with contextlib.suppress(OSError):
            while self.read():
                self.heard.append(time.perf_counter())

    def silence_during(self, action):
        """Milliseconds."""
        begin = time.perf_counter()
        action()
        end = time.perf_counter()
        while not (self.heard and self.heard[-1] > end):  # until it is heard again
            if time.perf_counter() > end + 60:
                raise RuntimeError("the guest is not heard any more")
            time.sleep(0.005)
        times = [moment for moment in self.heard if moment >= begin]
        return max(later - earlier for earlier, later in zip([begin] + times, times)) * 1e3



def console_of(product, vm):
    connection = socket.create_connection(("127.0.0.1", product.port))
    connection.sendall((f"GET /v1/vms/{vm}/console HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
                        "Connection: Upgrade\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
                        "Sec-WebSocket-Version: 13\r\n"
                        f"Authorization: Bearer {product.token}\r\n\r\n").encode())
    connection.settimeout(60)
    return connection


def dirty(letter):
    """Rewrites the same pages; cheap, as it is what a guest of an emulated KVM takes longest for."""
    return (f"perl -e 'open F, \"+<\", \"/run/changes\" or open F, \">\", \"/run/changes\"; "
            f"print F \"{letter}\" x {MIB} for 1..{DIRTY // MIB}'")


def pauses(bench, product, by_hand, memory):
    """Pauses of incremental checkpoints of the server's VM, and of the same VM taken over by hand."""
    ours, floor = [], []
    bake(product, memory)
    create(product, "vm", memory)  # woken, as the one by hand is
    product.request("POST", "/v1/vms/vm/exec",
                    {"command": ["/bin/sh", "-c", Ticker.command(bench.tick_ms)], "detach": True})
    run(product, "vm", dirty("a"))
    first = product.request("POST", "/v1/vms/vm/checkpoints", {})
    [place] = (product.data_dir / "users").glob(f"*/checkpoints/vm/{first['id']}")
    with bench.by_hand.Woken(by_hand / f"vm-{memory}", place, memory) as machine, \
            BareAgent(bench, "/bin/sh", "-c", dirty("b")) as agent, \
            contextlib.closing(console_of(product, "vm")) as console:
        saver = bench.by_hand.Saver(machine, DIRTY)
        by_console = Ticker(machine.read_console)
        through_api = Ticker(lambda: console.recv(65536))
        for turn in range(12):
            run(product, "vm", dirty("bc"[turn % 2]))
            ours.append(through_api.silence_during(
                lambda: product.request("POST", "/v1/vms/vm/checkpoints", {})))
            agent.run(machine.agent)
            if turn == 0:
                saver.prepare(memory * MIB)
            floor.append(by_console.silence_during(saver.save))
    product.request("DELETE", "/v1/vms/vm")
    return ours[2:], floor[2:]


def checkpoint_pause(bench):
    """How long a guest of either size is silent while an incremental checkpoint is made of it."""
    with world(bench) as (product, _, by_hand):
        small, small_floor = pauses(bench, product, by_hand, SMALL)
        large, large_floor = pauses(bench, product, by_hand, LARGE)
    return [Measurement("checkpoint-pause", small, small_floor, "ms", 1.3),
            Measurement("checkpoint-pause-2g", large, large_floor, "ms", 1.3),
            Measurement("checkpoint-pause-2g-to-256m", large, small, "ms", 1.1)]


def saved_vm(product):
    """A VM that was saved; the checkpoint's id and directory."""
    create(product, "vm", SMALL)
    run(product, "vm")
    checkpoint = product.request("POST", "/v1/vms/vm/checkpoints", {})
    [place] = (product.data_dir / "users").glob(f"*/checkpoints/vm/{checkpoint['id']}")
    product.request("POST", "/v1/vms/vm/stop")
    return checkpoint["id"], place


def in_parallel(product, requests):
    """Each list of requests in order, all lists at once, each on a connection of its own."""
    def carry_out(list_of_requests):
        connection = http.client.HTTPConnection("127.0.0.1", product.port, timeout=300)
        for method, path, body in list_of_requests:
            connection.request(method, path, json.dumps(body), {"Authorization": f"Bearer {product.token}",
                                                                "Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
            if answer.status >= 300:
                raise RuntimeError(f"{method} {path}: {answer.status} {content[:500]}")
        connection.close()

    with concurrent.futures.ThreadPoolExecutor(len(requests)) as pool:
        list(pool.map(carry_out, requests))


def clones(product, checkpoint, count):
    in_parallel(product, [[("POST", "/v1/vms/vm/restore", {"checkpoint_id": checkpoint, "new_name": f"clone-{i}"}),
                           ("POST", f"/v1/vms/clone-{i}/exec", {"command": ["/bin/true"]})] for i in range(count)])


def remove_clones(product, count):
    in_parallel(product, [[("DELETE", f"/v1/vms/clone-{i}", None)] for i in range(count)])


def machines_by_hand(bench, stack, agent, directory, place, count):
    machines = [stack.enter_context(bench.by_hand.Woken(directory / f"clone-{i}", place, SMALL)) for i in range(count)]
    agent.run(*(machine.agent for machine in machines))
    return machines


def fifty_clones(bench):
    """50 clones of one checkpoint at once, until each has answered a command."""
    ours, floor = [], []
    with world(bench, limits={"max_vms": CLONES + 2}) as (product, agent, by_hand):
        checkpoint, place = saved_vm(product)
        for _ in range(4):
            ours.append(timed(lambda: clones(product, checkpoint, CLONES)))
            remove_clones(product, CLONES)
            with contextlib.ExitStack() as stack:
                floor.append(timed(lambda: machines_by_hand(bench, stack, agent, by_hand, place, CLONES)))
    return Measurement("clones-50", ours[1:], floor[1:], "ms", 1.2)


def proportional_set_size(pids):
    total = 0
    for pid in pids:
        for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def processes_in(directory):
    pids = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if os.readlink(entry / "cwd").startswith(str(directory)):
                    pids.append(int(entry.name))
    return pids


def clone_memory(bench):
    """What each of ten idle clones adds to the memory in use, the server's own growth included."""
    count = 10
    ours, floor = [], []
    with world(bench) as (product, agent, by_hand):
        checkpoint, place = saved_vm(product)
        clones(product, checkpoint, 1)
        remove_clones(product, 1)
        for _ in range(3):
            before = proportional_set_size([product.process.pid])
            clones(product, checkpoint, count)
            pids = [product.process.pid, *processes_in(product.data_dir)]
            ours.append((proportional_set_size(pids) - before) / count / MIB)
            remove_clones(product, count)
            with contextlib.ExitStack() as stack:
                machines = machines_by_hand(bench, stack, agent, by_hand, place, count)
                floor.append(proportional_set_size([one.process.pid for one in machines]) / count / MIB)
    return Measurement("clone-memory", ours, floor, "MiB", 1.1)


def used_bytes(directory):
    subprocess.run(["sync", "-f", directory], check=True)
    state = os.statvfs(directory)
    return (state.f_blocks - state.f_bfree) * state.f_frsize


def checkpoint_size(bench):
    """20 checkpoints of a VM that changes 10 MiB between each; the floor is what it changes."""
    changed, count = 10 * MIB, 20
    change = f"head -c {changed} /dev/urandom | dd of=/run/changes conv=notrunc bs=1M status=none"
    with world(bench) as (product, _, _):
        create(product, "vm", SMALL)
        run(product, "vm", change)
        product.request("POST", "/v1/vms/vm/checkpoints", {})
        before = used_bytes(product.data_dir)
        for _ in range(count):
            run(product, "vm", change)
            product.request("POST", "/v1/vms/vm/checkpoints", {})
        used = used_bytes(product.data_dir) - before
    return Measurement("checkpoint-size", [used / MIB], [count * changed / MIB], "MiB", 1.5)


BENCHMARKS = {"template-create": template_create, "pool-create": pool_create,
              "checkpoint-pause": checkpoint_pause, "clones-50": fifty_clones, "clone-memory": clone_memory,
              "checkpoint-size": checkpoint_size}
