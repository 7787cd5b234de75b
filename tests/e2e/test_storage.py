"""VM data on every kind of file system, and in the server's own pool; each really mounted."""
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

import pytest
from conftest import Server
from test_checkpoints import checkpoint, restore, shell

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount")

MIB = 1 << 20


@contextlib.contextmanager
def mounted(kind, size=6144):
    """An empty file system of that kind, in a file that takes no more than what is written."""
    place = pathlib.Path(tempfile.mkdtemp(prefix="noid-e2e-disk-"))
    image, point = place / "image", place / "mounted"
    point.mkdir()
    with open(image, "wb") as file:
        file.truncate(size * MIB)
    # What ext4 keeps for root is not there for a server that has given root up.
    options = ["-m", "0"] if kind == "ext4" else []
    subprocess.run([f"mkfs.{kind}", "-q", *options, image], check=True)
    subprocess.run(["mount", "-o", "loop", image, point], check=True)
    try:
        yield point
    finally:
        subprocess.run(["umount", "--lazy", point], check=True)
        shutil.rmtree(place)


@contextlib.contextmanager
def server_on(disk, **settings):
    server = Server(disk, **settings)
    try:
        yield server
    finally:
        server.destroy_everything()
        subprocess.run(["umount", "--lazy", "--quiet", server.data_dir / "pool"], check=False)


def free(path):
    subprocess.run(["sync", "-f", path], check=True)
    state = os.statvfs(path)
    return state.f_bavail * state.f_frsize


def save_rewind_clone_and_fork(api):
    """One pass over all that clones files."""
    api.create("web")
    shell(api, "web", "echo first > /root/file; sync")
    saved = checkpoint(api, "web", name="good")
    shell(api, "web", "echo second > /root/file; sync")
    later = checkpoint(api, "web")
    restore(api, "web", "good", keep_present=False)
    assert shell(api, "web", "cat /root/file") == "first"
    restore(api, "web", later["id"], new_name="twin")
    assert shell(api, "twin", "cat /root/file; hostname") == "second\ntwin"
    answer = api.post("/v1/vms/twin/fork", json={"names": ["fork"]})
    assert answer.status_code == 201, answer.text
    assert shell(api, "fork", "cat /root/file; hostname") == "second\nfork"
    assert shell(api, "web", "cat /root/file") == "first", "they keep apart"
    return {one["id"]: one for one in api.get("/v1/vms/web/checkpoints").json()}, saved["id"], later["id"]


@pytest.mark.parametrize("kind, shares", [("btrfs", True), ("xfs", True), ("ext4", False)])
def test_checkpoints_and_clones_work_on(kind, shares):
    with mounted(kind) as disk, server_on(disk, storage={"template_budget": 0}) as server:
        server.start()
        api = server.make_user()
        listed, _, later = save_rewind_clone_and_fork(api)
        used = listed[later]["disk_used_bytes"]
        if shares:
            assert used < 48 * MIB, "it shares memory and disk with the checkpoint before it"
        else:
            assert used > 64 * MIB, "nothing is shared here, and the number says so"
        before = free(disk)
        assert api.delete(f"/v1/vms/web/checkpoints/{later}").status_code == 204
        # A VM runs on its memory, by a link: what is freed is the disk, or what was not shared of it.
        assert free(disk) >= before - MIB


def test_a_host_without_reflinks_keeps_vms_in_a_pool():
    with mounted("ext4") as disk, server_on(disk, storage={"pool": "auto", "pool_size": 4096}) as server:
        server.start()
        assert os.statvfs(server.data_dir / "pool").f_blocks > 0
        assert not (server.data_dir / "users").exists()
        assert "ok    reflink" in server.command("doctor", check=False).stdout
        api = server.make_user()
        listed, saved, later = save_rewind_clone_and_fork(api)
        assert listed[later]["disk_used_bytes"] < 48 * MIB, "clones share here"
        image = server.data_dir / "pool.btrfs"
        assert image.stat().st_blocks * 512 < image.stat().st_size / 2, "it takes what is in it"

        refused = server.command("storage", "unmount", check=False)
        assert refused.returncode == 1 and "VMs run" in refused.stderr
        server.stop(signal.SIGKILL)
        refused = server.command("storage", "unmount", check=False)
        assert refused.returncode == 1, "VMs run also without a server"
        server.start()
        assert "found mounted" in server.log.read_text()
        assert shell(api, "web", "cat /root/file") == "first"

        for name in ("web", "twin", "fork"):
            api.destroy(name)
        refused = server.command("storage", "unmount", check=False)
        assert refused.returncode == 1 and "in use by the server" in refused.stderr
        server.stop()
        # As where a server's unit has mounts of its own: VMs in there are found all the same.
        assert "not mounted" in server.command("storage", "unmount").stdout
        assert server.command("stop-vms").stdout == ""
        assert "not mounted" in server.command("storage", "unmount").stdout
        offline = server.command("user", "list", check=False)
        assert offline.returncode == 1 and "storage mount" in offline.stderr, "never an empty place instead"
        server.write_config({"storage": {"pool": "auto", "pool_size": 5120}})
        server.start()
        assert "5120 MiB at most" in server.command("storage", "status").stdout
        assert "mounted" in server.command("storage", "status").stdout
        api.create("again")
        assert shell(api, "again", "hostname") == "again"


def test_a_full_disk_below_the_pool_is_an_error_and_no_damage():
    with mounted("ext4", 3072) as disk, \
            server_on(disk, storage={"pool": "auto", "pool_size": 8192, "template_budget": 0}) as server:
        server.start()
        assert "smaller than what the pool may grow to" in server.log.read_text()
        api = server.make_user()
        api.create("web")
        shell(api, "web", "echo kept > /root/file; sync")
        filler = disk / "filler"
        with open(filler, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, free(disk) - 150 * MIB)
        answer = api.post("/v1/vms/web/checkpoints", json={})
        assert answer.status_code == 507, answer.text
        assert "nearly full" in answer.text
        assert shell(api, "web", "cat /root/file; echo more > /root/more; sync; cat /root/more") == "kept\nmore"
        assert api.get("/v1/vms/web/checkpoints").json() == []
        filler.unlink()
        checkpoint(api, "web")
