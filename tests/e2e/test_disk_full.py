"""A full disk below the data directory, with real VMs: what cannot be done says so and leaves nothing, the VM that
runs goes on, and with space everything works again."""
import errno
import os
import subprocess

import pytest
from conftest import GUEST_MEMORY, IMAGES
from test_checkpoints import checkpoint, counter, restore, shell, start_counter, state
from test_storage import MIB, mounted, server_on

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount")

KINDS = ["ext4", pytest.param("btrfs", marks=pytest.mark.long), pytest.param("xfs", marks=pytest.mark.long)]
# They change by themselves, also when nothing is done.
ALWAYS_CHANGING = ("noid.db", "logs")


class FullDisk:
    """All space of a file system, taken and given back."""

    def __init__(self, disk):
        self.filler = disk / "filler"
        self.disk = disk

    def fill(self, leave=0):
        """Takes everything but `leave` bytes, less than a block of which may be left more."""
        os.sync()
        with open(self.filler, "ab") as file:
            size = file.tell()
            step = 256 * MIB
            while step >= 4096:
                try:
                    os.posix_fallocate(file.fileno(), size, step)
                    size += step
                except OSError as error:
                    assert error.errno == errno.ENOSPC
                    step //= 4
            # A failed call may have taken a part.
            os.ftruncate(file.fileno(), max(size - leave, 0))
            os.fsync(file.fileno())

    def make_room(self):
        self.filler.unlink()
        os.sync()


def tree(data_dir):
    return {str(path.relative_to(data_dir)) for path in data_dir.rglob("*")
            if not path.name.startswith(ALWAYS_CHANGING) and "logs" not in path.parts}  # fmt: skip


class Story:
    """A user with a VM that counts, one that was never saved, checkpoints, one of them exported, and a golden."""

    def __init__(self, server, disk):
        self.server, self.disk = server, FullDisk(disk)
        self.api = server.make_user("ann")
        self.api.create("web")
        start_counter(self.api, "web")
        shell(self.api, "web", "echo kept > /root/file; sync")
        self.good = checkpoint(self.api, "web", name="good")["id"]
        answer = self.api.get(f"/v1/vms/web/checkpoints/{self.good}/export", timeout=300)
        assert answer.status_code == 200
        self.stream = answer.content
        self.later = checkpoint(self.api, "web", name="later")["id"]
        server.command("golden", "promote", self.good)
        self.api.create("fresh", boot=True)
        shell(self.api, "fresh", "sync")

    def steps(self):
        """By name: what is asked for, and how to undo it when it was done."""
        api, command = self.api, self.server.command
        new = {"name": "new", "cpus": 1, "mem_mib": GUEST_MEMORY}

        def post(path, **body):
            return lambda: api.post(f"/v1/vms{path}", json=body, timeout=300)

        def take_in():
            return api.post("/v1/vms/web/checkpoints/import?name=in", data=self.stream, timeout=300)

        def destroy(*names):
            return lambda: [api.destroy(name) for name in names]

        def forget(vm, name):
            return lambda: api.delete(f"/v1/vms/{vm}/checkpoints/{name}").raise_for_status()

        return {
            "create": (post("", **new, boot=True), destroy("new")),
            "create from golden": (post("", **new), destroy("new")),
            "checkpoint": (post("/web/checkpoints", name="more"), forget("web", "more")),
            "first checkpoint": (post("/fresh/checkpoints", name="first"), forget("fresh", "first")),
            "suspend": (post("/web/suspend"), lambda: shell(api, "web", "cat /root/file")),
            "restore": (post("/web/restore", checkpoint_id="good"), lambda: shell(api, "web", "cat /root/file")),
            "clone": (post("/web/restore", checkpoint_id="good", new_name="twin"), destroy("twin")),
            "fork": (post("/web/fork", names=["one", "two"]), destroy("one", "two")),
            "import": (take_in, forget("web", "in")),
            "golden": (lambda: command("golden", "promote", self.later, check=False),
                       lambda: command("golden", "rollback")),
            "user": (lambda: command("user", "create", "ben", check=False), lambda: command("user", "delete", "ben")),
        }  # fmt: skip


def outcome(answer):
    """Whether it was done, and else what the user is told."""
    if isinstance(answer, subprocess.CompletedProcess):
        return answer.returncode == 0, answer.stderr
    assert answer.status_code < 300 or answer.status_code == 507, (answer.status_code, answer.text)
    return answer.status_code < 300, answer.text


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_full_disk_prevents_is_said_and_leaves_nothing(kind):
    with mounted(kind) as disk, server_on(disk, storage={"template_budget": 0}) as server:
        server.start()
        story = Story(server, disk)
        api, steps = story.api, story.steps()
        refused = set()
        count = counter(api, "web")
        for free in (0, 2 * MIB, 40 * MIB):
            for name, (ask, undo) in steps.items():
                story.disk.fill(free)
                before, machines = tree(server.data_dir), set(server.vmm_processes())
                done, said = outcome(ask())
                if done:
                    undo()
                    continue
                refused.add(name)
                assert "space" in said.lower(), (name, said)
                assert tree(server.data_dir) == before, (name, free)
                assert set(server.vmm_processes()) == machines, (name, free)
                assert state(api, "web") == "running"
                later = counter(api, "web")
                assert later > count, f"{name}: the guest runs on"
                count = later
                assert shell(api, "web", "cat /root/file") == "kept"
        assert {"create", "first checkpoint", "import"} <= refused, "nothing of that can be done without space"
        if kind == "ext4":
            assert {"restore", "clone", "fork", "golden"} <= refused, "copies need it"

        story.disk.make_room()
        for name, (ask, undo) in steps.items():
            done, said = outcome(ask())
            assert done, (name, said)
            undo()
        assert shell(api, "web", "cat /root/file") == "kept"
        assert shell(api, "fresh", "echo written > /root/file; sync; cat /root/file") == "written"
        server.stop()
        left = server.command("fsck", check=False)
        assert "left" not in left.stdout, left.stdout


def test_a_template_that_finds_no_space_costs_its_vm_nothing():
    with mounted("ext4") as disk, server_on(disk) as server:
        server.start()
        api, full = server.make_user(), FullDisk(disk)
        image = os.stat(IMAGES / "debian-12.ext4").st_blocks * 512
        full.fill(image + 100 * MIB)  # for the VM, but not for another disk beside it
        assert api.create("web")["start"] == "boot"
        assert shell(api, "web", "hostname") == "web"
        assert list((server.data_dir / "templates").iterdir()) == []
        assert "no template was made" in server.log.read_text()
        full.make_room()
        api.create("second")
        assert shell(api, "second", "hostname") == "second"
        made = api.create("third")
        assert made["start"] in ("template", "boot")  # as it is on the disk by now, or not yet
