"""What a VM's owner may change of its machine: the memory that its guest gives back, the limits of its disk."""
import hashlib

import pytest

from conftest import VMM
from waiting import until

MIB = 1 << 20
MEMORY = 320  # MiB
PATIENCE = 120  # s, for a guest that a busy host emulates


def change(user, name, **fields):
    answer = user.request("PATCH", f"/v1/vms/{name}", json=fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def info(user, name):
    answer = user.get(f"/v1/vms/{name}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def once(user, name, holds):
    """The VM's description once it is as wanted. Nothing tells when a guest has done what it was asked to."""
    return until(lambda: info(user, name), holds, within=PATIENCE, every=0.2)


def balloon(vm):
    return vm["guest_memory"]["balloon_bytes"]


def shell(user, name, script, **fields):
    # Random bytes and digests take minutes where the host itself is emulated.
    answer = user.exec(name, "sh", "-ec", script, **{"timeout_ms": 300_000, **fields})
    assert answer["exit_code"] == 0, answer
    return answer["stdout"]


def fill(user, name, file, mebibytes):
    """Random bytes in the guest's memory; their digest."""
    # Linux gives it half of the memory; what is filled here is more.
    return shell(user, name, f"mount -o remount,size=95% /dev/shm; head -c {mebibytes}M /dev/urandom > /dev/shm/{file}; sha256sum < /dev/shm/{file}")


def digest(user, name, file):
    return shell(user, name, f"sha256sum < /dev/shm/{file}")


@pytest.fixture
def world(server_factory):
    server = server_factory().start()
    return server, server.make_user("owner")


def snapshot_files(server):
    return sorted(server.data_dir.glob("templates/[!.]*/memory.snap"))  # those that are whole


def contents(path):
    return hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_blocks


def test_a_guest_gives_memory_back_and_takes_it_again(world):
    server, user = world
    # The first boots, the second wakes from what the first left: their memory lies over no file, and over one.
    for name in ("boots", "wakes"):
        user.create(name, mem_mib=MEMORY)
        before = once(user, name, lambda vm: "available_bytes" in vm.get("guest_memory", {}))
        assert balloon(before) == 0 and "balloon_mib" not in before
        assert before["guest_memory"]["total_bytes"] < MEMORY * MIB
        once(user, name, lambda vm: snapshot_files(server))
        snapshots = [contents(path) for path in snapshot_files(server)]

        assert change(user, name, balloon_mib=128)["balloon_mib"] == 128
        once(user, name, lambda vm: balloon(vm) == 128 * MIB)
        free = int(shell(user, name, "awk '/^MemFree/ {print $2}' /proc/meminfo")) << 10
        assert free < (MEMORY - 128) * MIB
        # What is used already stays; a guest in need takes it back by itself rather than end.
        kept = fill(user, name, "kept", 32)
        assert digest(user, name, "kept") == kept

        assert "balloon_mib" not in change(user, name, balloon_mib=0)
        once(user, name, lambda vm: balloon(vm) == 0)
        large = fill(user, name, "large", 96)
        assert digest(user, name, "large") == large and digest(user, name, "kept") == kept
        # What one guest gives back is no hole in what others wake from.
        assert [contents(path) for path in snapshot_files(server)] == snapshots
    assert user.create("third", mem_mib=MEMORY)["start"] == "template"


def test_a_guest_that_needs_less_shrinks_by_itself(world):
    _, user = world
    for name in ("boots", "wakes"):
        user.create(name, mem_mib=MEMORY)
        fill(user, name, "much", 128)
        used = info(user, name)["memory_used_bytes"]
        assert used > 128 * MIB
        shell(user, name, "rm /dev/shm/much")
        once(user, name, lambda vm, used=used: vm["memory_used_bytes"] < used - 96 * MIB)


def test_snapshots_of_a_guest_that_gave_memory_back_are_right(world):
    _, user = world
    user.create("source", mem_mib=MEMORY)
    first = fill(user, "source", "first", 48)
    for number in range(2):
        # Pages go to the host and come back while others are written: also over the snapshot before.
        change(user, "source", balloon_mib=128)
        once(user, "source", lambda vm: balloon(vm) == 128 * MIB)
        second = fill(user, "source", "second", 24)
        if number == 1:
            change(user, "source", balloon_mib=16)
            once(user, "source", lambda vm: balloon(vm) == 16 * MIB)
            third = fill(user, "source", "third", 64)
        answer = user.post("/v1/vms/source/checkpoints", json={"name": f"c{number}"})
        assert answer.status_code == 201, answer.text
        clone = f"clone{number}"
        answer = user.post("/v1/vms/source/restore", json={"checkpoint_id": f"c{number}", "new_name": clone})
        assert answer.status_code in (200, 201), answer.text
        for name in ("source", clone):
            assert digest(user, name, "first") == first
            assert digest(user, name, "second") == second
            if number == 1:
                assert digest(user, name, "third") == third
        # A clone has what its origin had, and takes it back as well.
        assert info(user, clone)["balloon_mib"] == (128 if number == 0 else 16)
        change(user, clone, balloon_mib=0)
        once(user, clone, lambda vm: balloon(vm) == 0)
        large = fill(user, clone, "large", 96)
        assert digest(user, clone, "large") == large and digest(user, clone, "first") == first
        user.destroy(clone)
    # Through a suspension, too.
    assert user.post("/v1/vms/source/suspend").status_code == 200
    assert digest(user, "source", "third") == third
    assert balloon(once(user, "source", lambda vm: "guest_memory" in vm)) == 16 * MIB


def test_what_cannot_be_is_refused_and_changes_nothing(world):
    _, user = world
    user.create("vm", mem_mib=MEMORY)
    for wrong in ({"balloon_mib": MEMORY}, {"balloon_mib": MEMORY - 63}, {"balloon_mib": -1}, {"balloon_mib": "1"},
                  {"disk_bytes_per_second": 1}, {"disk_ops_per_second": 1}, {"disk_iops": 500}, {"mem_mib": 512}):
        answer = user.request("PATCH", "/v1/vms/vm", json=wrong)
        assert answer.status_code == 400, (wrong, answer.text)
        assert next(iter(wrong)) in answer.json()["error"], answer.text
    vm = info(user, "vm")
    assert not {"balloon_mib", "disk_bytes_per_second", "disk_ops_per_second"} & vm.keys()
    assert user.request("PATCH", "/v1/vms/nobody", json={"balloon_mib": 1}).status_code == 404


def write_slowly(user, name, kibibytes):
    """Seconds that the guest takes to write past its cache."""
    out = shell(user, name, "read begin _ < /proc/uptime;"
                f"dd if=/dev/zero of=/root/written bs=64k count={kibibytes // 64} oflag=direct 2>&1;"
                "read end _ < /proc/uptime; echo $begin $end", timeout_ms=PATIENCE * 1000)
    begin, end = out.splitlines()[-1].split()
    return float(end) - float(begin)


def test_a_disk_limit_binds_while_the_vm_runs_and_wherever_it_wakes(world):
    _, user = world
    user.create("vm", mem_mib=MEMORY)
    free = write_slowly(user, "vm", 4096)
    limited = change(user, "vm", disk_bytes_per_second=512 * 1024)
    assert limited["disk_bytes_per_second"] == 512 * 1024
    # The first second's worth may go at once. However slow the host is, faster than this it cannot be.
    slow = write_slowly(user, "vm", 4096)
    assert slow > 5 and slow > 2 * free, (slow, free)

    answer = user.post("/v1/vms/vm/restore", json={"checkpoint_id": save(user, "vm"), "new_name": "clone"})
    assert answer.status_code in (200, 201), answer.text
    assert info(user, "clone")["disk_bytes_per_second"] == 512 * 1024
    assert write_slowly(user, "clone", 2048) > 2
    user.destroy("clone")

    change(user, "vm", disk_bytes_per_second=0, disk_ops_per_second=16)
    few = write_slowly(user, "vm", 4096)  # 64 operations
    assert few > 2.5, few
    assert user.post("/v1/vms/vm/suspend").status_code == 200
    assert write_slowly(user, "vm", 4096) > 2.5
    change(user, "vm", disk_ops_per_second=0)
    assert write_slowly(user, "vm", 4096) < slow / 2
    counted = info(user, "vm")["devices"]
    assert counted["disk_written_bytes"] >= 8 * MIB and counted["disk_errors"] == 0
    if VMM == "firecracker":
        assert counted["disk_throttled"] > 0


def save(user, name):
    answer = user.post(f"/v1/vms/{name}/checkpoints", json={})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def test_the_server_bounds_the_limits_of_disks(server_factory):
    server = server_factory(limits={"disk_bytes_per_second": 50_000_000, "max_disk_ops_per_second": 5000}).start()
    user = server.make_user("owner")
    made = user.create("vm", mem_mib=MEMORY)
    assert (made["disk_bytes_per_second"], made["disk_ops_per_second"]) == (50_000_000, 5000)
    answer = user.request("PATCH", "/v1/vms/vm", json={"disk_ops_per_second": 5001})
    assert answer.status_code == 403 and "5000" in answer.text
    assert user.request("PATCH", "/v1/vms/vm", json={"disk_ops_per_second": 0}).status_code == 403
    answer = user.post("/v1/vms", json={"name": "fast", "mem_mib": MEMORY, "disk_ops_per_second": 6000})
    assert answer.status_code == 403, answer.text
    made = user.create("other", mem_mib=MEMORY, disk_bytes_per_second=40_000_000, disk_ops_per_second=4000)
    assert (made["disk_bytes_per_second"], made["disk_ops_per_second"]) == (40_000_000, 4000)


def test_the_machine_counts(world):
    _, user = world
    user.create("vm", mem_mib=MEMORY)
    before = info(user, "vm")["devices"]
    write_slowly(user, "vm", 1024)
    after = info(user, "vm")["devices"]
    assert after["disk_written_bytes"] >= before["disk_written_bytes"] + MIB
    assert after["disk_writes"] > before["disk_writes"]
    if VMM == "firecracker":
        assert after["vcpu_exits"] > before["vcpu_exits"]
        assert after["vsock_received_bytes"] > before["vsock_received_bytes"]
        assert after["seccomp_faults"] == 0 and after["vcpu_errors"] == 0


def test_the_command_sets_and_shows_them(noid, shared_client):
    noid("create", "by-cli", "--mem", str(MEMORY), "--disk-bandwidth", "40M", "--disk-iops", "4K")
    try:
        shown = noid("info", "-a", "by-cli").stdout
        assert "4000 operations/s" in shown and "I/O:" in shown
        out = noid("set", "by-cli", "--balloon", "64M", "--disk-iops", "off").stdout
        assert out == "VM 'by-cli': balloon 64 MiB, disk 40000000 bytes/s, not limited\n"
        assert "64 MiB asked for" in noid("info", "-a", "by-cli").stdout
        refused = noid("set", "by-cli", check=False)
        assert refused.returncode == 1 and "--balloon" in refused.stderr
        assert noid("set", "by-cli", "--balloon", "off").returncode == 0
        assert "balloon_mib" not in info(shared_client, "by-cli")
    finally:
        shared_client.destroy("by-cli")
